"""Looking again after a job: once, in time, and never in anybody's way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from memguard.report import CallerMemory
from memguard.settling import ReportSlot, Settler
from tests.support.forks import FORKS_BESIDE_THREADS, in_child
from tests.support.guarded import eventually


@dataclass
class Report:
    """As much of a report as settling looks at."""

    caller: CallerMemory = field(default_factory=lambda: CallerMemory(1, 2, None))


def slot() -> ReportSlot:
    made: Any = Report()
    return ReportSlot(made)


def is_settled(slot: ReportSlot) -> bool:
    return slot.report.caller.after_5s_bytes is not None


@pytest.fixture
def settler() -> Iterator[Settler]:
    settler = Settler(0.01)
    yield settler
    settler.close()


def settling_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "memguard-settler"]


def test_every_report_settles_and_the_thread_goes(settler: Settler) -> None:
    """Reports that come at once, from many threads, and after the thread has gone all get their figure."""
    slots = [slot() for _ in range(40)]
    threads = [threading.Thread(target=settler.settle, args=(each,)) for each in slots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert eventually(lambda: all(map(is_settled, slots)))
    assert eventually(lambda: settler._thread is None)
    late = slot()
    settler.settle(late)
    assert eventually(lambda: is_settled(late))


def test_close_ends_the_waiting_at_once() -> None:
    """A settler that is closed has no thread, fills nothing in, and takes nothing more."""
    before = settling_threads()
    settler, early, late = Settler(60), slot(), slot()
    settler.settle(early)
    settler.close()
    settler.settle(late)
    settler.close()
    assert settling_threads() == before
    assert not is_settled(early)
    assert not is_settled(late)


class ThreadThatStopsToThink(threading.Thread):
    """A thread whose starter is interrupted before and after it starts."""

    interrupt: Callable[[], None]

    def start(self) -> None:
        self.interrupt()
        super().start()
        self.interrupt()


def test_a_signal_handler_closes_in_the_midst_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever settles may be interrupted by one who closes, around the start of the thread or beside a running one."""
    settler = Settler(60)
    former = signal.signal(signal.SIGUSR1, lambda *_: settler.close())
    ThreadThatStopsToThink.interrupt = staticmethod(lambda: signal.raise_signal(signal.SIGUSR1))
    monkeypatch.setattr(threading, "Thread", ThreadThatStopsToThink)
    try:
        settler.settle(slot())
        assert eventually(lambda: settler._thread is None or not settler._thread.is_alive())
    finally:
        signal.signal(signal.SIGUSR1, former)


def test_no_thread_to_be_had_costs_the_figure_only(settler: Settler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine refuses a thread nobody is told off; the next report that settles takes the waiting along."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    first, second = slot(), slot()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        settler.settle(first)
    assert not is_settled(first)
    settler.settle(second)
    assert eventually(lambda: is_settled(first) and is_settled(second))


@FORKS_BESIDE_THREADS
def test_a_forked_copy_settles_its_own() -> None:
    """A child of a process that waits for a figure has a thread of its own for its reports, and ends it."""
    settler, parents = Settler(0.3), slot()
    settler.settle(parents)

    def child() -> bool:
        own = slot()
        settler.settle(own)
        done = eventually(lambda: is_settled(own)) and not is_settled(parents)
        settler.close()
        return bool(done)

    assert in_child(child)
    assert eventually(lambda: is_settled(parents))
    settler.close()
