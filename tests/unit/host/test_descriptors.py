"""Descriptors and their owner: closed once, at the latest when the owner dies, and never after they were given away."""

from __future__ import annotations

import os

import pytest

from memguard.host import OwnMemory
from memguard.host.descriptors import Descriptors


def opened(count: int = 2) -> Descriptors:
    return Descriptors(map(os.open, [os.devnull] * count, [os.O_RDONLY] * count))


def are_open(numbers: list[int]) -> bool:
    return all(os.path.lexists(f"/proc/self/fd/{number}") for number in numbers)


def test_an_owner_that_dies_closes() -> None:
    """What nobody holds any more is closed."""
    owner = opened()
    numbers = list(owner)
    assert are_open(numbers)
    assert owner.fileno() == numbers[0]
    del owner
    assert not any(are_open([number]) for number in numbers)


def test_each_is_closed_once() -> None:
    """Closing again, or dying after it, does not touch a number that somebody else has meanwhile."""
    owner = opened(1)
    number = owner.fileno()
    owner.close()
    others = os.open(os.devnull, os.O_RDONLY)
    try:
        assert others == number
        owner.close()
        assert owner.fileno() == -1
        del owner
        assert are_open([others])
    finally:
        os.close(others)


def test_what_was_given_away_stays_open() -> None:
    """The new owner closes."""
    owner = opened()
    numbers = owner.give_away()
    del owner
    assert are_open(numbers)
    for number in numbers:
        os.close(number)


def test_what_could_be_opened_is_closed_when_the_rest_could_not() -> None:
    """An owner that fails to be filled leaves nothing open."""
    before = os.listdir("/proc/self/fd")
    with pytest.raises(FileNotFoundError):
        Descriptors(map(os.open, [os.devnull, "/nowhere/at/all"], [os.O_RDONLY] * 2))
    assert os.listdir("/proc/self/fd") == before


def test_a_measurement_of_this_process_lets_go_by_itself() -> None:
    """One that is dropped without a close leaves no descriptor; one that is closed measures all the same."""
    before = os.listdir("/proc/self/fd")
    memory = OwnMemory()
    measured = memory.private_bytes()
    memory.close()
    assert abs(memory.private_bytes() - measured) < 64 << 20
    dropped = OwnMemory()
    del dropped
    assert os.listdir("/proc/self/fd") == before
