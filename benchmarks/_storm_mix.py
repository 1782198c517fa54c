"""Which jobs a storm is made of: the basic mix, which is the same each time, and mixes drawn at random."""

from __future__ import annotations

import random
from dataclasses import dataclass

__all__ = ["MIXES", "Job", "basic", "drawn"]

_MIB = 2**20
# What a bare interpreter takes beside its data, rounded up: so much more than it fills an honest job names.
_INTERPRETER_BYTES = 24 * _MIB
# A liar uses so many times what it names, and all together want so many times the capacity.
_LIE = 4
_WANTED = 3


@dataclass(frozen=True, slots=True)
class Job:
    """One job.

    Attributes:
        name: what it is called.
        fill_bytes: what it fills.
        named_bytes: what it says it needs.
        cpu_s: processor time that it takes.
    """

    name: str
    fill_bytes: int
    named_bytes: int
    cpu_s: float = 1.0

    @property
    def is_honest(self) -> bool:
        """Whether it stays inside what it named."""
        return self.fill_bytes < self.named_bytes


def honest(number: int, fill_bytes: int) -> Job:
    """Return a job that names what it needs."""
    return Job(f"honest{number}", fill_bytes, fill_bytes + _INTERPRETER_BYTES)


def liar(number: int, named_bytes: int) -> Job:
    """Return a job that uses four times what it names."""
    return Job(f"liar{number}", _LIE * named_bytes, named_bytes)


def basic(capacity_bytes: int, _: random.Random) -> tuple[Job, ...]:
    """Return five honest jobs of 150 to 420 MiB, evenly spread, and two liars that make it three times the capacity.

    In 1 GiB each liar names 206 MiB and uses 824.
    """
    fills = [150 * _MIB + number * (270 * _MIB // 4) for number in range(5)]
    named = (_WANTED * capacity_bytes - sum(fills)) // (2 * _LIE)
    return (*map(honest, range(5), fills), *(liar(number, named) for number in range(2)))


def drawn(capacity_bytes: int, chance: random.Random) -> tuple[Job, ...]:
    """Draw jobs, three in ten of them liars, until together they want three times the capacity."""
    jobs: list[Job] = []
    while sum(job.fill_bytes for job in jobs) < _WANTED * capacity_bytes:
        if chance.random() < 0.3:
            # Up to nine tenths of the capacity: what cannot fit even alone would be no question.
            jobs.append(liar(len(jobs), chance.randrange(60 * _MIB, int(0.9 * capacity_bytes / _LIE))))
        else:
            jobs.append(honest(len(jobs), chance.randrange(150 * _MIB, 420 * _MIB)))
    return tuple(jobs)


MIXES = {"basic": basic, "drawn": drawn}
