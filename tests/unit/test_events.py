"""Events: only known ones exist, and each reaches every subscriber."""

from __future__ import annotations

import contextlib
import dataclasses
import pickle
import re
import threading

import pytest

from memguard.events import EVENTS, Event, EventBus
from tests.support.forks import FORKS_BESIDE_THREADS, held_by_another, in_child


def test_an_unknown_event_is_refused() -> None:
    """An event that is not in the list cannot be made, and the error names the list."""
    with pytest.raises(ValueError, match=r"'memguard\.job_exploded' is not a known event.*EVENTS"):
        Event("memguard.job_exploded")


def test_the_names_are_dotted_and_in_the_past_tense() -> None:
    """Every listed name is memguard.<thing>_<verb in the past tense>, with words that explain it."""
    past = re.compile(r"memguard\.[a-z]+(_[a-z]+)*(ed|en|hed|lost|sent|left|begun|run)")
    assert [name for name in EVENTS if not past.fullmatch(name)] == []
    assert [name for name, meaning in EVENTS.items() if len(meaning) < 20] == []


def test_an_event_cannot_be_changed_and_crosses_a_pipe() -> None:
    """A made event stays as it is, also when its publisher's dict changes, and pickles whole."""
    fields: dict[str, str | int | float | bool | None] = {"used_bytes": 5}
    event = Event("memguard.budget_neared", job_id="j1", cause_id="c1", fields=fields)
    fields["used_bytes"] = 6
    assert event.fields == {"used_bytes": 5}
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.job_id = "j2"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(event)) == event


def test_all_subscribers_get_every_event_in_order() -> None:
    """Each subscriber has each event once, subscribers in the order in which they came."""
    bus, seen = EventBus(), list[tuple[int, str]]()
    for number in range(3):
        bus.subscribe(lambda event, number=number: seen.append((number, event.name)))  # type: ignore[misc]
    for name in ("memguard.job_started", "memguard.job_ended"):
        bus.publish(Event(name))
    assert seen == [
        (number, name) for name in ("memguard.job_started", "memguard.job_ended") for number in range(3)
    ]


def test_a_failing_subscriber_keeps_the_event_from_nobody() -> None:
    """The others still get the event, and the publisher then learns of every failure."""
    bus, seen = EventBus(), list[Event]()

    def fail(event: Event) -> None:
        raise KeyError(event.name)

    for subscriber in (fail, seen.append, fail):
        bus.subscribe(subscriber)
    event = Event("memguard.job_started")
    with pytest.raises(ExceptionGroup, match=r"memguard\.job_started") as caught:
        bus.publish(event)
    assert [type(error) for error in caught.value.exceptions] == [KeyError, KeyError]
    assert seen == [event]


def test_an_interrupt_in_a_subscriber_is_not_collected() -> None:
    """Ctrl-C while a subscriber runs stops the publication instead of becoming one error of many."""
    bus = EventBus()

    def interrupted(_event: Event) -> None:
        raise KeyboardInterrupt

    bus.subscribe(interrupted)
    with pytest.raises(KeyboardInterrupt):
        bus.publish(Event("memguard.job_started"))


def test_subscribing_twice_is_two_subscriptions() -> None:
    """Each subscription is ended by its own function alone, once or many times."""
    bus, seen = EventBus(), list[Event]()
    first, second = bus.subscribe(seen.append), bus.subscribe(seen.append)
    first()
    first()
    bus.publish(Event("memguard.job_started"))
    assert len(seen) == 1
    second()
    bus.publish(Event("memguard.job_started"))
    assert len(seen) == 1


def test_a_subscription_for_a_block_ends_with_the_block() -> None:
    """After the block, also one left by an error, the subscriber hears nothing more."""
    bus, seen = EventBus(), list[Event]()
    with contextlib.suppress(ZeroDivisionError), bus.subscribed(seen.append):
        bus.publish(Event("memguard.job_started"))
        raise ZeroDivisionError
    bus.publish(Event("memguard.job_ended"))
    assert [event.name for event in seen] == ["memguard.job_started"]


def test_a_subscriber_may_subscribe_and_leave_while_it_is_called() -> None:
    """Changing the subscriptions from inside a subscriber neither hangs nor skips another one."""
    bus, seen = EventBus(), list[Event]()

    def leave(_event: Event) -> None:
        end()
        bus.subscribe(seen.append)

    end = bus.subscribe(leave)
    bus.subscribe(seen.append)
    bus.publish(Event("memguard.job_started"))
    assert len(seen) == 1
    bus.publish(Event("memguard.job_ended"))
    assert len(seen) == 3


def test_subscriptions_from_many_threads_are_all_kept() -> None:
    """Subscribing at the same time from several threads loses none."""
    bus, seen, barrier = EventBus(), list[Event](), threading.Barrier(8)

    def subscribe_many() -> None:
        barrier.wait()
        for _ in range(200):
            bus.subscribe(seen.append)

    threads = [threading.Thread(target=subscribe_many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bus.publish(Event("memguard.job_started"))
    assert len(seen) == 1600


@FORKS_BESIDE_THREADS
def test_a_forked_copy_subscribes_whatever_others_did() -> None:
    """A thread that was about to subscribe at the fork does not keep the child from it."""
    bus = EventBus()

    def child() -> bool:
        seen: list[Event] = []
        bus.subscribe(seen.append)
        bus.publish(Event("memguard.job_started"))
        return len(seen) == 1

    with held_by_another(bus._lock):
        assert in_child(child)
