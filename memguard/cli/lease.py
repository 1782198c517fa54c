"""A wrapped command's lease of the machine's memory: what it asks for, and the words while it waits."""

from __future__ import annotations

from contextlib import AbstractContextManager

from memguard.cli.exits import say
from memguard.cli.job_log import note
from memguard.config import Settings
from memguard.leasing import Tenure, leased, parent_lease, reservation_for, who_holds
from memguard.ledger.book import Wish
from memguard.ledger.records import Lease
from memguard.units import format_bytes
from memguard.worker.compose import JobFrame

__all__ = ["command_lease"]


def command_lease(
    frame: JobFrame, settings: Settings, *, is_named: bool, quiet: bool
) -> AbstractContextManager[Tenure]:
    """Reserve what a command is to have, as a context manager; says on stderr what it waits for.

    Args:
        frame: the job.
        settings: as read.
        is_named: whether somebody said how much memory it needs.
        quiet: say nothing.

    Raises:
        CapacityExceeded, ReservationTimeout: as `memguard.leasing.leased`.
    """
    reserved_bytes = reservation_for(settings, frame.limit_bytes, is_named=is_named)
    wish = Wish(frame.job_id, frame.name, reserved_bytes, settings.priority, parent_lease())

    def tell_waiting(leases: tuple[Lease, ...]) -> None:
        holders = who_holds(leases, wish, settings)
        note("memguard.reservation_waited", frame.job_id, wanted_bytes=reserved_bytes, holders=holders)
        if not quiet:
            say(f"{frame.name} waits for {format_bytes(reserved_bytes)}: {holders}")

    return leased(settings, wish, limit_bytes=frame.limit_bytes, on_wait=tell_waiting)
