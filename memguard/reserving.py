"""Room for a job before it starts: first in its manager's budget, then of the machine.

Comes in: what is known of a job, and the wish to stop it. Goes out: its `Reservation` and its `Tenure`, for the length
of a ``with`` block. Who waits for the machine holds room of his manager only, which nobody who holds memory of the
machine waits for: a process with blocks of its own does not wait for the machine at all (`memguard.leasing`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from memguard.allocator import Reservation, ResourceAllocator
from memguard.config import Settings
from memguard.forecasting.phases import PhasePlan
from memguard.foresight import phases_by_forecast, reserved_by_forecast
from memguard.jobs import StopRequest
from memguard.leasing import Tenure, leased, most_reservable, parent_lease, reservation_for, who_holds
from memguard.ledger.book import Wish
from memguard.ledger.records import Lease
from memguard.managed import held_around
from memguard.worker.compose import JobFrame

__all__ = ["Room", "reserved"]


@dataclass(frozen=True, slots=True)
class Room:
    """Where a manager's jobs get their room.

    Attributes:
        allocator: the manager's budget.
        settings: of the machine's ledger.
        publish: tells subscribers: event, job id, fields.
    """

    allocator: ResourceAllocator
    settings: Settings
    publish: Callable[..., None]


@contextmanager
def reserved(
    room: Room, frame: JobFrame, request: StopRequest, *, is_named: bool
) -> Iterator[tuple[Reservation, Tenure]]:
    """Reserve what a job is to have, waiting for it in turn, and give it back at the end.

    Args:
        room: where.
        frame: the job; a block of the caller's own process is of the kind ``managed``.
        request: ends the wait when somebody asks.
        is_named: whether somebody said how much memory it needs.

    Raises:
        CapacityExceeded, ReservationTimeout, JobInterrupted: as `ResourceAllocator.reserve` and `leased`.
    """

    def tell_waiting(wanted_bytes: int, holders: str) -> None:
        room.publish("memguard.reservation_waited", frame.job_id, wanted_bytes=wanted_bytes, holders=holders)

    wish = _wish(room.settings, frame, is_named=is_named)

    def tell_waiting_for_machine(leases: tuple[Lease, ...]) -> None:
        tell_waiting(wish.reserved_bytes, who_holds(leases, wish, room.settings))

    with (
        room.allocator.reserve(
            frame.limit_bytes,
            frame.name,
            held=held_around(),
            withdrawn=request.is_asked,
            on_wait=lambda holders: tell_waiting(frame.limit_bytes, holders),
        ) as reservation,
        leased(
            room.settings,
            wish,
            limit_bytes=frame.limit_bytes,
            is_block=frame.kind == "managed",
            withdrawn=request.is_asked,
            on_bell=request.on_ask,
            on_wait=tell_waiting_for_machine,
        ) as tenure,
    ):
        _plan_phases(room, frame, wish, tenure)
        room.publish(
            "memguard.reservation_granted",
            frame.job_id,
            reserved_bytes=tenure.reserved_bytes,
            wanted_bytes=wish.reserved_bytes,
        )
        try:
            yield reservation, tenure
        finally:
            room.publish("memguard.reservation_released", frame.job_id, reserved_bytes=tenure.reserved_bytes)


def _plan_phases(room: Room, frame: JobFrame, wish: Wish, tenure: Tenure) -> None:
    """Have the lease follow the job through its parts, where their peaks are forecast."""

    def tell(reserved_bytes: int, before_bytes: int, phase: str) -> None:
        figures = {"reserved_bytes": reserved_bytes, "before_bytes": before_bytes}
        room.publish("memguard.reservation_changed", frame.job_id, phase=phase, **figures)

    phases = phases_by_forecast(frame, wish.reserved_bytes)
    tenure.plan(PhasePlan(phases).needed, tell)


def _wish(settings: Settings, frame: JobFrame, *, is_named: bool) -> Wish:
    wanted = reservation_for(settings, frame.limit_bytes, is_named=is_named)
    if frame.estimate is not None and not is_named:
        wanted = min(frame.limit_bytes, max(frame.estimate.high_bytes, 0))
    wanted = reserved_by_forecast(frame, wanted, most_bytes=most_reservable(settings))
    return Wish(frame.job_id, frame.name, wanted, settings.priority, parent_lease())
