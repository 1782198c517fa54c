"""A job's budget: from what was asked for, or nothing, to bytes that the machine and outer budgets allow. Pure.

Comes in: a size in any form, the machine's reading, the bound of whoever is outside. Goes out: a `Budget`, or an
error that gives the figures. Reserving it is the allocator's, enforcing it the worker's.
"""

from __future__ import annotations

from dataclasses import dataclass

from memguard.errors import CapacityExceeded, ConfigError, SizeSyntaxError
from memguard.host.readings import MachineReading, MemoryLimit
from memguard.units import SMALLEST_BUDGET_BYTES, Size, format_bytes, guess_unit, parse_size

__all__ = ["Budget", "OuterBound", "bound_told_as", "resolve_budget"]


@dataclass(frozen=True, slots=True)
class OuterBound:
    """The budget of a manager or job that encloses this one."""

    limit_bytes: int
    name: str


def bound_told_as(text: str, name: str) -> OuterBound | None:
    """Return the bound that a wrapper left in the environment; ``None`` for what no wrapper writes."""
    # No machine has 10^19 bytes, and int() refuses thousands of digits.
    plausible = text.isascii() and text.isdecimal() and len(text) < 20 and int(text) > 0
    return OuterBound(int(text), name) if plausible else None


@dataclass(frozen=True, slots=True)
class Budget:
    """A bound in bytes and where it came from."""

    limit_bytes: int
    source: str


def resolve_budget(
    asked: str | int | Size | None,
    machine: MachineReading,
    *,
    default: Size,
    outer: OuterBound | None = None,
    source: str = "memory",
    default_source: str = "the setting memory",
) -> Budget:
    """Turn a request into a budget.

    Args:
        asked: what was asked for; a percentage is of the capacity, or of the outer bound where there is one;
            ``None`` takes all of the outer bound, or ``default``.
        machine: the machine now.
        default: the share for those who ask for nothing and have no outer bound.
        outer: the enclosing budget.
        source: the name of the argument or flag, for messages.
        default_source: the name of the setting and where it was set, for messages.

    Raises:
        SizeSyntaxError: for a text that is no size.
        ConfigError: for a size too small to run anything, ``default`` included.
        CapacityExceeded: for more than the machine or the outer bound allows, ``default`` included.
    """
    bound = _bound(machine, outer)
    if asked is None:
        if outer is not None:
            return Budget(bound.limit_bytes, f"all of {outer.name}")
        return _checked(default, bound, default_source, "default")
    return _checked(_size_of(asked, source), bound, source, source)


def _size_of(asked: str | int | Size, source: str) -> Size:
    try:
        return parse_size(asked)
    except SizeSyntaxError as error:
        raise SizeSyntaxError(f"{source}: {error}", text=error.text) from None


def _checked(size: Size, bound: OuterBound, source: str, told_as: str) -> Budget:
    limit_bytes = size.resolve(bound.limit_bytes)
    _check(limit_bytes, size, bound, source)
    shown = format_bytes(limit_bytes) if size.text.isdecimal() else size.text
    share = " of the capacity" if size.fraction is not None and told_as == "default" else ""
    return Budget(limit_bytes, f"{told_as} {shown}{share}")


def _bound(machine: MachineReading, outer: OuterBound | None) -> OuterBound:
    here = OuterBound(machine.capacity_bytes, _name_of(machine.binding))
    if outer is None or outer.limit_bytes > here.limit_bytes:
        return here
    return outer


def _name_of(limit: MemoryLimit) -> str:
    if limit.source == "physical":
        return "the machine's physical memory"
    return limit.source if limit.source == limit.path else f"{limit.source} limit {limit.path}"


def _check(limit_bytes: int, size: Size, bound: OuterBound, source: str) -> None:
    if limit_bytes < SMALLEST_BUDGET_BYTES:
        guess = guess_unit(size.text, bound.limit_bytes)
        raise ConfigError(
            f"{source} {size.text}: {format_bytes(limit_bytes)} is too small to run anything, the least is "
            f"{format_bytes(SMALLEST_BUDGET_BYTES)}{guess}",
            setting="memory",
            origin=source,
        )
    if limit_bytes > bound.limit_bytes:
        raise CapacityExceeded(
            f"{source} {size.text} is more than there is: {_as_typed(size, limit_bytes)} of "
            f"{format_bytes(bound.limit_bytes)} ({bound.name}); ask for at most that, or for a share such as 80%",
            requested_bytes=limit_bytes,
            capacity_bytes=bound.limit_bytes,
            limited_by=bound.name,
        )


def _as_typed(size: Size, limit_bytes: int) -> str:
    """Return the figure in memguard's units where that is the very same one, else as it was typed: 100TB."""
    shown = format_bytes(limit_bytes)
    return shown if size.text.isdecimal() or parse_size(shown).absolute_bytes == limit_bytes else size.text
