"""What a part with a state gives away and takes back: a mapping that JSON can hold, with a version and checked names.

Comes in: a state from somewhere. Goes out: what of it is known, or an error that names what does not fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from memguard.errors import StateMismatch

__all__ = ["StateDifference", "known_state", "whole_number"]


@dataclass(frozen=True, slots=True)
class StateDifference:
    """How a state differed from what was expected, where that was no error.

    Attributes:
        missing: names that it should have had; what they tell stayed as it was.
        unexpected: names that are not known; they were left out.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()


def known_state(
    state: Mapping[str, Any], schema: str, names: Iterable[str], *, strict: bool
) -> tuple[dict[str, Any], StateDifference]:
    """Return what is known of a state, and how it differs from what was expected.

    Args:
        state: as ``state_dict()`` gave it; its key ``schema`` says of what, and in which version.
        schema: what it must say there.
        names: the other keys that it should have.
        strict: refuse a state that lacks one or has another.

    Raises:
        StateMismatch: for another schema; with ``strict`` for missing or unexpected names, which it says.
    """
    if not isinstance(state, Mapping):
        raise StateMismatch(f"a state is a mapping, not a {type(state).__name__}", missing=(), unexpected=())
    found = state.get("schema")
    if found != schema:
        raise StateMismatch(
            f"this is the state of {found!r:.60}, not of {schema!r}; give what state_dict() of the same part gave",
            missing=(),
            unexpected=(),
        )
    wanted = list(names)
    here = {name: value for name, value in state.items() if name in wanted}
    missing = tuple(name for name in wanted if name not in here)
    unexpected = tuple(sorted(str(name) for name in state if name not in wanted and name != "schema"))
    if strict and (missing or unexpected):
        raise StateMismatch(_told(schema, missing, unexpected), missing=missing, unexpected=unexpected)
    return here, StateDifference(missing, unexpected)


def _told(schema: str, missing: tuple[str, ...], unexpected: tuple[str, ...]) -> str:
    parts = [
        f"{what} {', '.join(names)}"
        for what, names in (("lacks", missing), ("has unknown", unexpected))
        if names
    ]
    return f"the state of {schema} {' and '.join(parts)}; load it with strict=False to take what is known"


def whole_number(name: str, value: object) -> int:
    """Return a value of a state that is a whole number from 0.

    Raises:
        ValueError: if it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} is a whole number from 0, not {value!r:.40}")
    return value
