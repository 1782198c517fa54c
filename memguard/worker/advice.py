"""What a job may say to its keeper. Pure.

Comes in: a message of the job's. Goes out: what it asks or tells, or ``None`` for what is nothing of that kind. The
channel is open in the job's process, so that a program which writes to all its descriptors, or says what it never
should, reaches the keeper: only what has the right form goes any further.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from memguard.worker.protocol import Message
from memguard.worker.verdict import Delivery

__all__ = ["Advice", "Delivered", "Need", "understand"]

# As much as a job's own side sends (`memguard.worker.context`), so that the message fits when it is passed on.
_LONGEST_TEXT: Final = 4000


@dataclass(frozen=True, slots=True)
class Need:
    """It asks for a segment for its result."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class Delivered:
    """It has filled the segment."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Advice:
    """It tells the caller something."""

    message: Message


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_TEXT


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool) or _is_number(value) or _is_text(value)


def _are_figures(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(type(each) is int for each in value)


_ADVICE: Final[Mapping[str, Mapping[str, Callable[[Any], bool]]]] = {
    "phase": {"name": _is_text, "detail": _is_text},
    "progress": {"fraction": _is_share},
    "warning": {"text": _is_text},
    "note": {"key": _is_text, "value": _is_scalar},
    "batches": {"figures": _are_figures},
}


def understand(message: Message) -> Need | Delivered | Advice | None:
    """Tell what a message of a job means."""
    match message:
        case {"kind": "need", "bytes": size_bytes} if type(size_bytes) is int and size_bytes > 0:
            return Need(size_bytes)
        case {"kind": "delivered", "delivery": str(word)} if word in set(Delivery):
            return Delivered(Delivery(word))
    fields = _ADVICE.get(message["kind"], {})
    if not fields or message.keys() != {"kind", *fields}:
        return None
    return Advice(message) if all(fits(message[name]) for name, fits in fields.items()) else None
