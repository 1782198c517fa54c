"""Work beside a block: it has ended when the block has, whatever happens to either."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from memguard.episodes import meanwhile as module
from memguard.episodes.meanwhile import meanwhile


def test_both_are_under_way_at_once_and_over_afterwards() -> None:
    """The block goes on while the work does, and is left once the work has ended too."""
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go.wait()
        ended.set()

    with meanwhile(work):
        assert begun.wait(60)
        assert not ended.is_set()
        go.set()
    assert ended.is_set()


def test_what_the_work_raises_is_raised_behind_the_block() -> None:
    """A disk that fails fails the add."""
    passed = []

    def work() -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"), meanwhile(work):
        passed.append(True)
    assert passed


def test_a_block_that_fails_waits_for_the_work_too() -> None:
    """What the work writes to is let go of only when it has ended; the block's own error is what is told."""
    begun, go, ended = threading.Event(), threading.Event(), []

    def work() -> None:
        begun.set()
        go.wait()
        ended.append(True)
        raise OSError("later")

    with pytest.raises(ValueError, match="first"), meanwhile(work):
        begun.wait(60)
        go.set()
        raise ValueError("first")
    assert ended


def test_an_interrupt_while_it_is_waited_for_leaves_nothing_running() -> None:
    """Ctrl-C is told once the work has ended, and not before."""
    ended = []

    def work() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        interrupted.wait()
        ended.append(True)

    interrupted = threading.Event()
    former = signal.signal(signal.SIGINT, _raising(interrupted))
    try:
        with pytest.raises(KeyboardInterrupt), meanwhile(work):
            pass
    finally:
        signal.signal(signal.SIGINT, former)
    assert ended


def test_an_interrupt_at_any_line_leaves_nothing_running() -> None:
    """Also before the thread is known to run, and between any two steps of waiting for it."""
    block, lines = bytes(8 << 20), 0
    while True:
        states: list[str] = []
        stop = _Stop(lines)

        def work(told: Callable[[str], None] = states.append) -> None:
            told("begun")
            hashlib.sha256(block).digest()
            told("ended")

        sys.settrace(stop.trace)
        try:
            with meanwhile(work):
                pass
        except KeyboardInterrupt:
            assert states in ([], ["begun", "ended"])
        else:
            break
        finally:
            sys.settrace(None)
        lines += 1
    assert lines > 10


def test_interrupts_again_and_again_while_it_is_waited_for() -> None:
    """Wherever in Python's own locks they come, the wait goes on until the work has ended, and no longer."""
    block, rounds = bytes(1 << 20), 0

    def raised(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGINT, raised)
    try:
        for delay in range(400):
            ended: list[bool] = []

            def work(delay: int = delay, ended: list[bool] = ended) -> None:
                hashlib.sha256(memoryview(block)[: 2048 * delay]).digest()
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                ended.append(True)

            with contextlib.suppress(KeyboardInterrupt):
                try:
                    with meanwhile(work):
                        pass
                finally:
                    rounds += ended == [True]
    finally:
        signal.signal(signal.SIGINT, former)
    assert rounds == 400


class _Stop:
    """Interrupts at the n-th line of the module, once."""

    def __init__(self, after: int) -> None:
        self._left = after

    def trace(self, frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename != module.__file__:
            return None
        if event == "line":
            self._left -= 1
            if self._left == -1:
                raise KeyboardInterrupt
        return self.trace


def _raising(told: threading.Event) -> Callable[[int, object], None]:
    def handle(signum: int, frame: object) -> None:
        told.set()
        raise KeyboardInterrupt

    return handle


def test_without_a_thread_the_work_is_done_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may start no thread adds all the same."""

    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    done: list[str] = []
    with meanwhile(lambda: done.append("work")):
        done.append("block")
    assert done == ["work", "block"]
