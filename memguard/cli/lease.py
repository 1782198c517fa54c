"""A wrapped command's lease of the machine's memory: what it asks for, and the words while it waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from memguard.cli.exits import say
from memguard.cli.job_log import note
from memguard.config import Settings
from memguard.foresight import reserved_by_forecast
from memguard.leasing import Tenure, leased, most_reservable, parent_lease, reservation_for, who_holds
from memguard.ledger.book import Wish
from memguard.ledger.records import Lease
from memguard.units import format_bytes
from memguard.worker.compose import JobFrame

__all__ = ["command_lease", "command_wish"]


def command_wish(frame: JobFrame, settings: Settings, *, is_named: bool) -> Wish:
    """Return what a command asks of the machine.

    Args:
        frame: the job, with what past jobs say of it.
        settings: as read.
        is_named: whether somebody said how much memory it needs.
    """
    reserved_bytes = reservation_for(settings, frame.limit_bytes, is_named=is_named)
    reserved_bytes = reserved_by_forecast(frame, reserved_bytes, most_bytes=most_reservable(settings))
    return Wish(frame.job_id, frame.name, reserved_bytes, settings.priority, parent_lease())


@contextmanager
def command_lease(frame: JobFrame, settings: Settings, *, is_named: bool, quiet: bool) -> Iterator[Tenure]:
    """Reserve what a command is to have; says on stderr what it waits for, and where it must start with less.

    Args:
        frame: the job.
        settings: as read.
        is_named: whether somebody said how much memory it needs.
        quiet: say nothing.

    Raises:
        CapacityExceeded, ReservationTimeout: as `memguard.leasing.leased`.
    """
    wish = command_wish(frame, settings, is_named=is_named)
    reserved_bytes = wish.reserved_bytes

    def tell_waiting(leases: tuple[Lease, ...]) -> None:
        holders = who_holds(leases, wish, settings)
        note("memguard.reservation_waited", frame.job_id, wanted_bytes=reserved_bytes, holders=holders)
        if not quiet:
            say(f"{frame.name} waits for {format_bytes(reserved_bytes)}: {holders}")

    with leased(settings, wish, limit_bytes=frame.limit_bytes, on_wait=tell_waiting) as tenure:
        had_bytes = tenure.reserved_bytes
        note(
            "memguard.reservation_granted",
            frame.job_id,
            reserved_bytes=had_bytes,
            wanted_bytes=reserved_bytes,
        )
        if had_bytes < reserved_bytes and not quiet:
            had, wanted = format_bytes(had_bytes), format_bytes(reserved_bytes)
            say(
                f"{frame.name} starts with {had} reserved of {wanted}: the job around it can have no more now"
            )
        yield tenure
