"""How a learned forecast is told: sizes as whole bytes, reasons as sentences. Pure."""

from __future__ import annotations

import math
from typing import Any, Final, TypeGuard

from memguard.estimate.headroom import least_for_promise
from memguard.estimate.history import MOST_RUNTIME_S
from memguard.estimate.kind import Kind
from memguard.estimate.sizing import Size
from memguard.units import format_bytes

__all__ = [
    "MOST_BYTES",
    "in_bytes",
    "is_runtime",
    "is_size",
    "shown",
    "signed",
    "told_of_promise",
    "told_of_size",
    "whole",
]

MOST_BYTES: Final = 2**62
_MOST_LOG: Final = 690.0


def told_of_size(size: Size, kind: Kind, capped: float, wanted: float, elsewhere: float) -> tuple[str, ...]:
    """Return how a size came about, one sentence each; wanted, capped and elsewhere in bytes."""
    count = len(kind.history)
    rule = "the promised rate asks for" if size.by_promise else "it costs least to have"
    said = [
        f"{size.name} of {count} jobs says {format_bytes(int(in_bytes(size.centre)))}",
        f"{rule} {math.expm1(size.headroom):+.1%} to that guess",
    ]
    if elsewhere >= wanted:
        said.append(f"in another world it used up to {format_bytes(int(elsewhere))}, and few jobs ended here")
    if capped < wanted:
        said.append(f"capped at {format_bytes(int(capped))}; without the cap {format_bytes(whole(wanted))}")
    if kind.aside:
        said.append(f"{kind.aside} absurd peaks were set aside")
    return tuple(said)


def told_of_promise(kind: Kind, promised: bool) -> tuple[str, ...]:
    """Return what is to be said of the promised rate: whether it is kept, and why it is not given."""
    seen = kind.watch.calibration()
    said = []
    factor = math.exp(kind.watch.extra())
    if seen.widened:
        said.append(
            f"{seen.recent_misses} of the last {seen.recent_attempts} were missed, more than "
            f"{kind.watch.miss_rate:.0%} allows: sizes are {factor:.2f} times as large until that ends"
        )
    elif factor > 1:
        said.append(f"what was missed of late makes it {factor:.2f} times as large")
    if not promised:
        need = least_for_promise(kind.watch.miss_rate)
        said.append(
            f"nothing is promised: {len(kind.history)} jobs ended and {kind.pending} have not; "
            f"{kind.watch.miss_rate:.0%} takes {need} that count"
        )
    return tuple(said)


def in_bytes(logarithm: float) -> float:
    """Return the size of a logarithm, within the range of a float."""
    return math.exp(min(_MOST_LOG, logarithm))


def whole(size: float) -> int:
    """Return a size as whole bytes, at least 1 and at most 4 EiB."""
    return math.ceil(min(max(size, 1.0), MOST_BYTES))


def signed(size: float) -> int:
    """Return a difference of sizes as whole bytes, within 4 EiB."""
    return round(max(-float(MOST_BYTES), min(float(MOST_BYTES), size)))


def shown(value: Any) -> str:
    """Return any value in a few letters."""
    # An integer may have more digits than Python agrees to write.
    return "a number far above" if isinstance(value, int) and value > MOST_BYTES else repr(value)[:40]


def is_size(value: Any) -> bool:
    """Return whether it is a finite number of bytes from 0 to 4 EiB."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST_BYTES


def is_runtime(value: Any) -> TypeGuard[float]:
    """Return whether a job can have run so long; a clock that ran backwards must not make one outweigh all others."""
    return isinstance(value, int | float) and 0 < value <= MOST_RUNTIME_S
