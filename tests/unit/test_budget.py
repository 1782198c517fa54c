"""A wish becomes a budget in bytes, or an error that has the figures and the next step."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.budget import OuterBound, bound_told_as, resolve_budget
from memguard.errors import CapacityExceeded, ConfigError, SizeSyntaxError
from memguard.host.readings import MachineReading, MemoryLimit
from memguard.units import GIB, MIB, SMALLEST_BUDGET_BYTES, parse_size

DEFAULT = parse_size("80%")


def machine(
    capacity_bytes: int = 8 * GIB, source: str = "physical", path: str = "/proc/meminfo"
) -> MachineReading:
    limit = MemoryLimit(source, path, capacity_bytes, GIB)
    return MachineReading(capacity_bytes, GIB, capacity_bytes - GIB, limit, (limit,), 0, None)


@pytest.mark.requirement("R2.1")
@pytest.mark.parametrize(
    ("asked", "outer", "limit_bytes", "source"),
    [
        ("1GiB", None, GIB, "memory 1GiB"),
        ("50%", None, 4 * GIB, "memory 50%"),
        (512 * MIB, None, 512 * MIB, "memory 512 MiB"),
        (None, None, int(6.4 * GIB), "default 80% of the capacity"),
        (None, OuterBound(GIB, "the budget of outer"), GIB, "all of the budget of outer"),
        ("50%", OuterBound(GIB, "the budget of outer"), GIB // 2, "memory 50%"),
        ("8GiB", None, 8 * GIB, "memory 8GiB"),
        (SMALLEST_BUDGET_BYTES, None, SMALLEST_BUDGET_BYTES, "memory 16 MiB"),
    ],
)
def test_a_wish_becomes_bytes(asked: Any, outer: OuterBound | None, limit_bytes: int, source: str) -> None:
    """Each form of a wish, with and without an outer bound, has its bytes and says where they came from."""
    budget = resolve_budget(asked, machine(), default=DEFAULT, outer=outer)
    assert (budget.limit_bytes, budget.source) == (limit_bytes, source)


@pytest.mark.parametrize(
    ("asked", "reading", "outer", "told"),
    [
        (
            "9GiB",
            machine(),
            None,
            r"memory 9GiB is more than there is: 9 GiB of 8 GiB \(the machine's physical memory\)",
        ),
        ("3GiB", machine(2 * GIB, "cgroup-v2", "/x"), None, r"3 GiB of 2 GiB \(cgroup-v2 limit /x\)"),
        (
            "3GiB",
            machine(2 * GIB, "MEMGUARD_CAPACITY", "MEMGUARD_CAPACITY"),
            None,
            r"of 2 GiB \(MEMGUARD_CAPACITY\)",
        ),
        ("2GiB", machine(), OuterBound(GIB, "the budget of outer"), r"of 1 GiB \(the budget of outer\)"),
        # An outer bound that the machine cannot hold any more does not count.
        ("4GiB", machine(2 * GIB), OuterBound(8 * GIB, "the budget of outer"), "physical memory"),
    ],
)
def test_more_than_there_is_is_refused(
    asked: str, reading: MachineReading, outer: OuterBound | None, told: str
) -> None:
    """The smallest bound of all is named, with what was asked for and what there is."""
    with pytest.raises(CapacityExceeded, match=told) as caught:
        resolve_budget(asked, reading, default=DEFAULT, outer=outer)
    assert isinstance(caught.value, MemoryError)
    assert "a share such as 80%" in str(caught.value)


@pytest.mark.parametrize("asked", ["80", "1MiB", "15MiB", 4096, "0.01%"])
def test_too_small_to_run_is_refused(asked: Any) -> None:
    """A number without a unit is taken for what it is, and what was probably meant is offered."""
    with pytest.raises(ConfigError, match=r"is too small to run anything, the least is 16 MiB") as caught:
        resolve_budget(asked, machine(), default=DEFAULT)
    assert ("did you mean" in str(caught.value)) == str(asked).isdecimal()


def test_a_text_that_is_no_size_is_refused_by_its_forms() -> None:
    """The error of the parser comes out as it is."""
    for text in ("4 bananas", "120%"):
        with pytest.raises(SizeSyntaxError, match=text):
            resolve_budget(text, machine(), default=DEFAULT)


@given(
    st.integers(SMALLEST_BUDGET_BYTES, 64 * GIB),
    st.integers(GIB, 32 * GIB),
    st.none() | st.integers(MIB, 64 * GIB),
)
def test_no_budget_is_larger_than_any_bound(asked: int, capacity: int, outer: int | None) -> None:
    """Whatever is asked for: the answer is what was asked, and inside every bound, or it is an error."""
    bound = min(capacity, outer) if outer is not None else capacity
    around = OuterBound(outer, "outer") if outer is not None else None
    try:
        budget = resolve_budget(asked, machine(capacity), default=DEFAULT, outer=around)
    except CapacityExceeded:
        assert asked > bound
    else:
        assert budget.limit_bytes == asked <= bound


@given(st.integers(GIB, 32 * GIB), st.none() | st.integers(32 * MIB, 64 * GIB))
def test_who_asks_for_nothing_gets_what_fits(capacity: int, outer: int | None) -> None:
    """Without a wish the budget is all of the outer one, or the default, and always inside the machine."""
    around = OuterBound(outer, "outer") if outer is not None else None
    budget = resolve_budget(None, machine(capacity), default=DEFAULT, outer=around)
    assert budget.limit_bytes == (min(capacity, outer) if outer is not None else int(capacity * 0.8))


@pytest.mark.parametrize("text", ["", "0", "00", "-5", "1e9", "1GiB", "\u0663", "9" * 20, "9" * 5000])
def test_what_no_wrapper_writes_bounds_nothing(text: str) -> None:
    """A variable that somebody else has set is not a budget, however odd it is."""
    assert bound_told_as(text, "the wrapper") is None


def test_a_wrappers_bound_is_read_with_its_name() -> None:
    """Bytes as a wrapper leaves them in the environment."""
    assert bound_told_as("4096", "the wrapper") == OuterBound(4096, "the wrapper")
