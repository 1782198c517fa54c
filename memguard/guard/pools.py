"""Caches that hold a lease of their own: asked to give back before anybody else, and for nothing else. Pure.

Comes in: how short memory is, and the leases that hold memory. Goes out: steps. A cache finishes nothing and never
ends, so it is neither held nor killed, and who waits for jobs to end does not wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from memguard.guard.pressure import Pressure
from memguard.guard.rungs import Job, Step
from memguard.ledger.board import Ask

__all__ = ["parted", "pool_steps"]


def parted(jobs: Iterable[Job]) -> tuple[list[Job], list[Job]]:
    """Return jobs, and the caches among those that hold memory."""
    everyone = list(jobs)
    return [each for each in everyone if not each.lease.is_pool], [
        each for each in everyone if each.lease.is_pool
    ]


def pool_steps(state: Pressure, used_fraction: float, pools: Iterable[Job]) -> Iterator[Step]:
    """Give what to ask of caches: all they have from the high line on, nothing any more below the elevated one."""
    for pool in pools:
        if state >= Pressure.HIGH and pool.entry.asked is Ask.NOTHING:
            why = f"{used_fraction:.0%} of the memory is in use; what can be read again should be given back"
            yield Step(pool.lease, Ask.SHED, why)
        elif state <= Pressure.ELEVATED and pool.entry.asked is not Ask.NOTHING:
            yield Step(pool.lease, Ask.NOTHING, "there is room again")
