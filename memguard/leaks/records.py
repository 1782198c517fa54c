"""The records of the leak detector: what was seen of each channel, who is suspected, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

__all__ = [
    "CENSUS_SLACK_BYTES",
    "SCHEMA",
    "CacheFill",
    "Channel",
    "ChannelFinding",
    "Culprit",
    "Explained",
    "Kind",
    "LeakReport",
    "Shape",
    "Verdict",
]

SCHEMA: Final = "memguard.leaks/1"
# Caches of the interpreter, frames, what the census finds of its own.
CENSUS_SLACK_BYTES: Final = 3000


class Verdict(StrEnum):
    """What is concluded: ``leaking`` and ``stable`` are claims, ``inconclusive`` is the want of one."""

    LEAKING = "leaking"
    STABLE = "stable"
    INCONCLUSIVE = "inconclusive"


class Kind(StrEnum):
    """What leaks.

    ``python``: Python objects. ``cycle``: objects that only the collector could free, and it does not run or is
    kept from them. ``array``: buffers of arrays. ``cache``: a cache without a bound. ``native``: malloc in C.
    ``mapping``: memory mapped past malloc. ``fd``: file descriptors. ``thread``: threads. ``shared_memory``:
    /dev/shm.
    """

    PYTHON = "python"
    CYCLE = "cycle"
    ARRAY = "array"
    CACHE = "cache"
    NATIVE = "native"
    MAPPING = "mapping"
    FD = "fd"
    THREAD = "thread"
    SHARED_MEMORY = "shared_memory"


class Channel(StrEnum):
    """What is sampled in the process itself.

    ``uss``: private memory, bytes. ``live``: bytes that malloc has given out and not got back; nothing where
    another allocator is in use. ``blocks``: `sys.getallocatedblocks`. ``objects``: objects that the collector
    tracks. ``fds``, ``threads``: how many. ``shared``: bytes of shared memory that this process created.
    """

    USS = "uss"
    LIVE = "live"
    BLOCKS = "blocks"
    OBJECTS = "objects"
    FDS = "fds"
    THREADS = "threads"
    SHARED = "shared"


class Shape(StrEnum):
    """How a channel's floors move.

    ``flat``: not at all, or by less than can matter. ``noise``: by no more than it scatters. ``step``: once.
    ``fading``: less and less. ``growing``: steadily, which is what a leak does. ``unclear``: too short a look.
    """

    FLAT = "flat"
    NOISE = "noise"
    STEP = "step"
    FADING = "fading"
    GROWING = "growing"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class ChannelFinding:
    """What one channel did after warm-up.

    Attributes:
        channel: which one.
        shape: how its floors moved.
        slope: units per iteration, Theil-Sen over the floors; bytes for ``uss``, ``live`` and ``shared``.
        low: lower end of the slope's interval.
        high: upper end.
        growth: last floor less the first one, in units.
        scatter: what the floors scatter about their line, in units.
        probability: of a trend like this one if there were none, by Mann-Kendall on the floors; 0 to 1.
        more_iterations: how many more would tell an ``unclear`` shape; 0 where it is told.
    """

    channel: Channel
    shape: Shape
    slope: float
    low: float
    high: float
    growth: float
    scatter: float
    probability: float
    more_iterations: int = 0

    @property
    def grows(self) -> bool:
        """Whether it does what a leak does."""
        return self.shape is Shape.GROWING


@dataclass(frozen=True, slots=True)
class CacheFill:
    """A cache with a bound that got fuller, and is not full.

    Attributes:
        holder: its name, as in `Culprit`.
        size: entries now.
        bound: entries at most; 0 if it is only known that its own code empties it at times.
        per_iteration: entries more with each iteration.
        bytes_per_iteration: what these weigh with all that only they hold.
        where: the function that bounds it, where the bound was found in code.
    """

    holder: str
    size: int
    bound: int
    per_iteration: float
    bytes_per_iteration: float
    where: str = ""

    @property
    def iterations_to_full(self) -> int:
        """How many more iterations fill it at this rate."""
        left = max(0, self.bound - self.size)
        return int(left / self.per_iteration) + 1 if self.per_iteration > 0 else 0


@dataclass(frozen=True, slots=True)
class Culprit:
    """Somebody who holds more with every iteration.

    Attributes:
        type: qualified name of the type that takes the bytes.
        holder: the container that grew, by its name ("module.CACHE: dict, +100 entries/iteration"); ``""`` if no
            Python object was found to hold it.
        bytes_per_iteration: what grows there.
        chain: from a root to the object, in types and names; no values.
        why: one sentence: what speaks for it.
    """

    type: str
    holder: str
    bytes_per_iteration: float
    chain: tuple[str, ...] = ()
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as the schema `SCHEMA` has it."""
        return {
            "type": self.type,
            "holder": self.holder,
            "bytes_per_iteration": round(self.bytes_per_iteration, 1),
            "chain": list(self.chain),
            "why": self.why,
        }


@dataclass(frozen=True, slots=True)
class Explained:
    """What a census of objects says about growth: the bytes that Python explains, by what they are.

    Attributes:
        iterations: between the two censuses.
        objects: objects more, per iteration; untracked ones that others hold included.
        object_bytes: bytes more per iteration: sizes of objects, and buffers with the array that owns them.
        array_bytes: the part of it that is buffers of arrays.
        unreachable_bytes: bytes per iteration of cycles that a collection freed, or would free if it were let.
        unreachable_type: the type that most of these belong to, ``""`` if there are none.
        filling: caches below their bounds that got fuller.
        unbounded: names of caches without a bound that got fuller (an ``lru_cache(maxsize=None)``, a cache of a
            library that is known never to forget).
        culprits: who holds it.
        mapped_bytes: by how much the address space grew per iteration, touched or not; ``None`` if it was not read.
    """

    iterations: int
    objects: float = 0.0
    object_bytes: float = 0.0
    array_bytes: float = 0.0
    unreachable_bytes: float = 0.0
    unreachable_type: str = ""
    filling: tuple[CacheFill, ...] = ()
    unbounded: tuple[str, ...] = ()
    culprits: tuple[Culprit, ...] = ()
    mapped_bytes: float | None = None

    @property
    def surely_bytes(self) -> float:
        """Bytes per iteration less what two censuses may differ by when nothing happened."""
        return self.object_bytes - CENSUS_SLACK_BYTES / max(1, self.iterations)


@dataclass(frozen=True, slots=True)
class LeakReport:
    """The answer: whether it leaks, how much, what, and who holds it.

    Attributes:
        verdict: the conclusion.
        bytes_per_iteration: of the channel that explains the growth; 0 if nothing grows, or if it is not bytes.
        interval: lower and upper end of that figure; about 95 %, as far as floors are independent.
        kind: what leaks; ``None`` unless something does.
        channels: a finding for each channel that could be read.
        culprits: who holds it, most bytes first.
        evidence: sentences that the conclusion rests on.
        advice: what to do next.
        iterations: how many were seen, warm-up included.
        warm_up: how many of these were left out.
        more_iterations: how many more would decide; ``None`` unless inconclusive.
        source: the likely origin of native growth ("numba: 200 functions compiled"); ``""`` if it is not known.
    """

    verdict: Verdict
    bytes_per_iteration: float
    interval: tuple[float, float]
    kind: Kind | None
    channels: tuple[ChannelFinding, ...]
    iterations: int
    warm_up: int
    culprits: tuple[Culprit, ...] = ()
    evidence: tuple[str, ...] = ()
    advice: str = ""
    more_iterations: int | None = None
    source: str = ""

    @property
    def is_leaking(self) -> bool:
        """Whether the verdict is ``leaking``."""
        return self.verdict is Verdict.LEAKING

    def finding(self, channel: Channel) -> ChannelFinding | None:
        """Return what one channel did, or ``None`` if it could not be read."""
        return next((each for each in self.channels if each.channel is channel), None)

    def to_json(self) -> dict[str, Any]:
        """Return it as the schema `SCHEMA` has it."""
        return {
            "schema": SCHEMA,
            "verdict": self.verdict.value,
            "bytes_per_iteration": round(self.bytes_per_iteration, 1),
            "interval": [round(end, 1) for end in self.interval],
            "kind": None if self.kind is None else self.kind.value,
            "iterations": self.iterations,
            "warm_up": self.warm_up,
            "more_iterations": self.more_iterations,
            "channels": {each.channel.value: _finding_json(each) for each in self.channels},
            "culprits": [each.to_json() for each in self.culprits],
            "source": self.source,
            "evidence": list(self.evidence),
            "advice": self.advice,
        }


def _finding_json(finding: ChannelFinding) -> dict[str, Any]:
    return {
        "shape": finding.shape.value,
        "grows": finding.grows,
        "per_iteration": round(finding.slope, 3),
        "interval": [round(finding.low, 3), round(finding.high, 3)],
        "growth": round(finding.growth, 3),
        "scatter": round(finding.scatter, 3),
        "probability": finding.probability,
        "more_iterations": finding.more_iterations,
    }
