"""The allocator against a plain model: whatever is asked in whatever order, both say the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from memguard.allocator import Reservation, ResourceAllocator
from memguard.errors import CapacityExceeded, ReservationTimeout

AMOUNTS = st.integers(0, 130)


class Model:
    """What an allocator promises, as a sum: who holds what, in which of the two."""

    def __init__(self, outer: int, inner: int) -> None:
        self.limits = {"outer": outer, "inner": inner}
        self.held: dict[Reservation, tuple[str, int]] = {}

    def free(self, where: str) -> int:
        counted = ("inner",) if where == "inner" else ("outer", "inner")
        return self.limits[where] - sum(size for place, size in self.held.values() if place in counted)

    def fits(self, where: str, size: int) -> bool:
        return size <= self.free(where) and (where == "outer" or size <= self.free("outer"))

    def could_ever_fit(self, where: str, size: int) -> bool:
        return size <= self.limits[where] and (where == "outer" or size <= self.limits["outer"])


class AllocatorMachine(RuleBasedStateMachine):
    """Reserves, grows and releases in an allocator and in one nested inside it."""

    reservations: Bundle[Reservation] = Bundle("reservations")

    @initialize(outer=st.integers(0, 100), inner=st.integers(0, 120))
    def make(self, outer: int, inner: int) -> None:
        self.outer = ResourceAllocator(outer, name="outer")
        self.inner = ResourceAllocator(inner, name="inner", parent=self.outer)
        self.model = Model(outer, inner)
        self.granted = 0

    def allocator(self, where: str) -> ResourceAllocator:
        return self.inner if where == "inner" else self.outer

    @rule(target=reservations, where=st.sampled_from(["outer", "inner"]), size=AMOUNTS)
    def reserve(self, where: str, size: int) -> Any:
        if not self.model.could_ever_fit(where, size):
            with pytest.raises(CapacityExceeded):
                self.allocator(where).reserve(size, "x", timeout_s=0)
            return multiple()
        if not self.model.fits(where, size):
            with pytest.raises(ReservationTimeout) as caught:
                self.allocator(where).reserve(size, "x", timeout_s=0)
            assert caught.value.free_bytes < size
            return multiple()
        reservation = self.allocator(where).reserve(size, "x", timeout_s=0)
        self.model.held[reservation] = (where, size)
        return reservation

    @rule(reservation=reservations, extra=AMOUNTS)
    def grow(self, reservation: Reservation, extra: int) -> None:
        where, size = self.model.held[reservation]
        fits = self.model.fits(where, extra)
        assert reservation.grow_nowait(extra) is fits
        if fits:
            self.model.held[reservation] = (where, size + extra)
        assert reservation.size_bytes == self.model.held[reservation][1]

    @rule(reservation=consumes(reservations), times=st.integers(1, 2))
    def release(self, reservation: Reservation, times: int) -> None:
        for _ in range(times):
            reservation.release()
        del self.model.held[reservation]
        assert reservation.grow_nowait(0) is False

    @rule(held=reservations, where=st.sampled_from(["outer", "inner"]), size=AMOUNTS)
    def ask_for_more_than_is_left_beside_oneself(self, held: Reservation, where: str, size: int) -> None:
        place, own = self.model.held[held]
        counts = place == where or (place, where) == ("inner", "outer")
        if counts and size > self.model.limits[where] - own:
            with pytest.raises(CapacityExceeded):
                self.allocator(where).reserve(size, "x", held=[held])

    @invariant()
    def says_what_the_model_says(self) -> None:
        if not hasattr(self, "model"):
            return
        for where in ("outer", "inner"):
            figures = self.allocator(where).statistics()
            assert self.allocator(where).free_bytes == self.model.free(where) >= 0
            assert figures.reserved_bytes == self.model.limits[where] - self.model.free(where)
            assert figures.reserved_bytes <= figures.limit_bytes
            assert figures.waiting == 0


TestAllocator = AllocatorMachine.TestCase
TestAllocator.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestAllocator = pytest.mark.requirement("T1.2", "R2.4")(TestAllocator)
