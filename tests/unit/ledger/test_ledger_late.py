"""What was promised is not promised twice, while a guard has not told yet that its job gave memory back."""

from __future__ import annotations

from memguard.host import identify
from memguard.ledger.admission import free_bytes
from memguard.ledger.records import Lease, Room
from memguard.units import MIB


def lease(reserved_mib: int, used_mib: int) -> Lease:
    return Lease("one", identify(), "one", reserved_mib * MIB, used_mib * MIB, 0, 0.0, 1.0, "", 0, 1)


def test_memory_given_back_within_a_promise_is_still_promised() -> None:
    """A job of 500 MiB that is told to use 400 and has freed them all: its 500 MiB are given to nobody else."""
    room = Room(600 * MIB, 600 * MIB, "the test")
    assert free_bytes(room, [lease(500, 400)]) == 100 * MIB


def test_use_beyond_a_promise_is_taken_off_as_well() -> None:
    """What a job uses beyond its promise is not there for others, though the machine's figure may be late."""
    room = Room(600 * MIB, 600 * MIB, "the test")
    assert free_bytes(room, [lease(100, 400)]) == 200 * MIB
