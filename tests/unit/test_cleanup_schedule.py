"""The schedule of a cleanup manager: one at most, whoever asks for it at the same time; none where none can be had."""

from __future__ import annotations

import threading

import pytest

from memguard.cleanup import CleanupManager, Occasion


def scheduled(manager: CleanupManager) -> None:
    manager.register("scheduled", int, on=[Occasion.SCHEDULED])


def test_two_that_register_at_once_share_one_schedule() -> None:
    """The second one comes while the schedule of the first is being made, and neither sees an error."""
    errors: list[Exception] = []
    events: list[threading.Event] = []
    begun = threading.Event()

    def register() -> None:
        begun.set()
        try:
            scheduled(manager)
        except RuntimeError as error:
            errors.append(error)

    second = threading.Thread(target=register)

    def make_event() -> threading.Event:
        if not events:
            events.append(threading.Event())
            second.start()
            assert begun.wait(30)
            second.join(0.05)  # in vain, since this one has the lock
            return events[0]
        events.append(threading.Event())
        return events[-1]

    with CleanupManager(interval_s=100.0, make_event=make_event) as manager:
        scheduled(manager)
        second.join()
        assert len(manager.planned(Occasion.SCHEDULED)) == 2
    assert (errors, len(events)) == ([], 1)
    assert all(event.is_set() for event in events)
    assert threading.active_count() == 1


def test_a_schedule_that_cannot_be_started_registers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gets an error has no handler in the manager, and may try again."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with CleanupManager(interval_s=100.0) as manager:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                scheduled(manager)
        assert manager.planned(Occasion.SCHEDULED) == ()
        scheduled(manager)
        assert manager.planned(Occasion.SCHEDULED) == ("scheduled",)


def test_a_closed_schedule_starts_no_other() -> None:
    """Its manager is closed, and says so."""
    with CleanupManager() as manager:
        manager.start_schedule(100.0)
        with pytest.raises(RuntimeError, match="has a schedule already"):
            manager.start_schedule(100.0)
    with pytest.raises(RuntimeError, match="is closed"):
        manager.start_schedule(100.0)
