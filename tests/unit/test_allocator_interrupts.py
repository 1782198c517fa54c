"""Ctrl-C while memory is reserved or given back: at whatever moment it comes, nothing stays taken and nobody in line."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import pytest

import memguard.allocator
from memguard.allocator import Reservation, ResourceAllocator
from memguard.errors import ReservationTimeout
from memguard.units import MIB

WHERE = memguard.allocator.__file__


class Interrupt:
    """Raises KeyboardInterrupt at the n-th moment at which Python looks for signals in the allocator.

    These are the beginning of a function and the return from a call of C code. Generators are left out: to close one
    looks like a beginning, which it is not.
    """

    def __init__(self, moment: int) -> None:
        self.left = moment

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        begins = event == "call" and not frame.f_code.co_flags & inspect.CO_GENERATOR
        if not (begins or event == "c_return") or frame.f_code.co_filename != WHERE:
            return
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def strikes(self, work: Callable[[], object]) -> BaseException | None:
        """Do something until it is interrupted; returns the interrupt, with the frames it came through."""
        sys.setprofile(self)
        try:
            work()
        except KeyboardInterrupt as error:
            return error
        finally:
            sys.setprofile(None)
        return None


class Case:
    """An inner budget and its outer one, and ways to use them."""

    def __init__(self) -> None:
        self.outer = ResourceAllocator(100 * MIB, name="outer")
        self.inner = ResourceAllocator(80 * MIB, name="inner", parent=self.outer)

    def block(self) -> None:
        """Reserve, grow and give back."""
        with self.inner.reserve(40 * MIB, "block") as held:
            held.grow_nowait(10 * MIB)

    def in_turn(self) -> None:
        """Wait for what another one has."""
        first = self.inner.reserve(60 * MIB, "first")
        with self.inner.reserve(70 * MIB, "second", on_wait=lambda _: first.release()):
            pass

    def in_vain(self) -> None:
        """Give up waiting."""
        with self.outer.reserve(60 * MIB, "first"), pytest.raises(ReservationTimeout):
            self.inner.reserve(70 * MIB, "second", timeout_s=0)

    def nobody_waits(self) -> bool:
        return self.inner.statistics().waiting == self.outer.statistics().waiting == 0

    def all_can_be_reserved(self) -> bool:
        self.outer.reserve(100 * MIB, "all", timeout_s=0).release()
        self.inner.reserve(80 * MIB, "all", timeout_s=0).release()
        return self.nobody_waits()


@pytest.mark.requirement("T1.2")
@pytest.mark.parametrize("use", [Case.block, Case.in_turn, Case.in_vain])
def test_an_interrupt_at_any_moment_leaves_nothing(use: Callable[[Case], None]) -> None:
    """Whoever is interrupted is out of line at once, and his room is free when his error is dealt with."""
    moment, interrupted = 0, True
    with ThreadPoolExecutor(1) as other_thread:
        while interrupted:
            moment += 1
            case = Case()
            error = Interrupt(moment).strikes(lambda case=case: use(case))  # type: ignore[misc]
            interrupted = error is not None
            assert other_thread.submit(case.nobody_waits).result(timeout=30), moment
            del error
            assert other_thread.submit(case.all_can_be_reserved).result(timeout=30), moment
    assert moment > 50


def test_what_nobody_holds_is_given_to_who_waits() -> None:
    """A reservation that was never released, and that nobody has any more, wakes the next in line."""
    shared = ResourceAllocator(100 * MIB)
    held: list[Reservation] = [shared.reserve(60 * MIB, "lost")]
    with ThreadPoolExecutor(1) as threads:
        begun = threading.Event()
        waits = threads.submit(shared.reserve, 70 * MIB, "next", on_wait=lambda _: begun.set())
        assert begun.wait(30)
        held.clear()
        assert waits.result(timeout=30).size_bytes == 70 * MIB


def test_a_reservation_says_that_it_was_given_back() -> None:
    """It is released from its release on, and not before."""
    with ResourceAllocator(MIB).reserve(MIB, "x") as held:
        assert not held.is_released
    assert held.is_released
