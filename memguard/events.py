"""Events: what happened, as frozen records that name the job and the cause.

Comes in: a fact from any room. Goes out: an `Event` to every subscriber and to the log. Names are
dotted and in the past tense; each is listed once in `EVENTS`, which docs/events.md is made from.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from weakref import WeakSet

__all__ = ["EVENTS", "Event", "EventBus", "JsonScalar", "Subscriber"]

JsonScalar = str | int | float | bool | None

EVENTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "memguard.job_started": "a job's process runs, inside its fence",
        "memguard.job_ended": "a job ended; `outcome` tells how",
        "memguard.phase_entered": "a job reached a named part of its work",
        "memguard.budget_neared": "a job's use crossed the warning line of its budget",
        "memguard.budget_exceeded": "a job's use passed its budget and the job was stopped for it",
        "memguard.guard_degraded": "a part of the guard failed; the job goes on with what is left",
        "memguard.reservation_granted": "memory was set aside for a job",
        "memguard.reservation_waited": "a job waits for memory that others hold",
        "memguard.reservation_changed": "a job has more or less set aside than before: it entered a `phase`, or uses "
        "more than forecast; `reserved_bytes`, `before_bytes`",
        "memguard.reservation_released": "a job's memory was given back",
        "memguard.pressure_changed": "memory is shorter than it was, or less short; `state` tells how short",
        "memguard.job_throttled": "memory is short, and a job was asked for less or held; `rung`, `why`",
        "memguard.job_released": "a job that was held goes on",
        "memguard.job_killed": "memory is short, and a job was ended for it; `why` tells why this one",
        "memguard.relief_measured": "what a step against the shortage brought; `freed_bytes`",
        "memguard.sentinel_started": "a process watches the machine's memory for the jobs of this user",
        "memguard.sentinel_ended": "nobody watches the memory any more: there were no jobs, or it was stopped",
        "memguard.job_requeued": "a job that ran out of memory is run again, with more",
        "memguard.forecast_missed": "a job used more than was forecast for it; `peak_bytes`, `predicted_bytes`, `kind`",
        "memguard.forecast_widened": "jobs of a `kind` used more than forecast more often than `miss_rate` allows, and "
        "more is reserved for them until that ends; see the runbook ForecastMissed",
        "memguard.overrun_foreseen": "jobs like one that is about to start used more than its budget; "
        "`needed_bytes`, `limit_bytes`, `capacity_bytes`, what `would_fit`",
        "memguard.cleanup_finished": "a cleanup run ended; `failed` counts the handlers that did not",
        "memguard.model_survived": "registered models outlived their job; `alive` counts them",
        "memguard.light_mode_entered": "a fit does less than asked for; `left_out`, `needed_bytes`, `had_bytes`, `why`",
        "memguard.batch_resized": "a batch size changed; `reason` tells why",
        "memguard.batch_failed": "rows `start` to `stop` were left out, since their batch failed",
    }
)


@dataclass(frozen=True, slots=True)
class Event:
    """One fact.

    Attributes:
        name: a key of `EVENTS`.
        job_id: the job it belongs to, or ``""`` for none.
        cause_id: the id of the event or decision that led to it, or ``""``.
        fields: figures and words, units in their names.
        wall_time_s: seconds since the epoch, for people.
    """

    name: str
    job_id: str = ""
    cause_id: str = ""
    fields: Mapping[str, JsonScalar] = field(default_factory=dict)
    wall_time_s: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        if self.name not in EVENTS:
            raise ValueError(f"{self.name!r} is not a known event; add it to memguard.events.EVENTS")
        # A copy: the publisher's dict may go on changing.
        object.__setattr__(self, "fields", dict(self.fields))


Subscriber = Callable[[Event], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Subscription:
    subscriber: Subscriber


class EventBus:
    """Hands each event to every subscriber, in the order in which they subscribed.

    A subscriber that raises does not keep the event from the others; its error is raised to the
    publisher afterwards, as a group. Does not promise delivery to a subscriber added meanwhile,
    nor that one just taken away gets nothing from a publication under way.
    """

    def __init__(self) -> None:
        self.start_over()
        # A subscription is an object of its own, so that subscribing twice is two of them.
        self._subscriptions: tuple[_Subscription, ...] = ()

        _buses.add(self)

    def start_over(self) -> None:
        """Take a new lock, as a forked child must: the thread that held the old one does not exist there."""
        # Reentrant, for a signal handler may subscribe in the midst of it.
        self._lock = threading.RLock()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Add a subscriber; the returned function takes it away again, once or many times."""
        added = _Subscription(subscriber)
        with self._lock:
            self._subscriptions = (*self._subscriptions, added)

        def unsubscribe() -> None:
            with self._lock:
                self._subscriptions = tuple(each for each in self._subscriptions if each is not added)

        return unsubscribe

    @contextmanager
    def subscribed(self, subscriber: Subscriber) -> Iterator[None]:
        """Subscribe for the length of a ``with`` block."""
        unsubscribe = self.subscribe(subscriber)
        try:
            yield
        finally:
            unsubscribe()

    def publish(self, event: Event) -> None:
        """Hand ``event`` to all.

        Raises:
            ExceptionGroup: what subscribers raised, after all of them had the event.
        """
        errors: list[Exception] = []
        for subscription in self._subscriptions:
            try:
                subscription.subscriber(event)
            except Exception as error:  # noqa: BLE001 - collected and raised below
                errors.append(error)
        if errors:
            raise ExceptionGroup(f"subscribers to {event.name} failed", errors)


def _start_over_in_child() -> None:
    for bus in list(_buses):
        bus.start_over()


_buses: WeakSet[EventBus] = WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_over_in_child)
