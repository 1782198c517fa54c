"""A signal cleans up, and then does what it did before."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from memguard.cleanup import CleanupManager
from tests.support.cleanups import PATIENCE_S, Calls, fail


@contextmanager
def disposition(number: signal.Signals, handler: object) -> Iterator[None]:
    before = signal.signal(number, handler)  # type: ignore[arg-type]
    try:
        yield
    finally:
        signal.signal(number, before)


def test_signal_cleans_up_and_calls_the_former_handler(calls: Calls) -> None:
    """Handlers run first, then the Python handler that was there before; closing gives the signal back."""

    def former(number: int, frame: object) -> None:
        calls.names.append(f"former {number}")

    with disposition(signal.SIGUSR1, former):
        manager = CleanupManager()
        manager.register("handler", calls("handler"))
        assert manager.install_signal_handlers((signal.SIGUSR1,)) == (signal.SIGUSR1,)
        assert manager.install_signal_handlers((signal.SIGUSR1,)) == ()
        signal.raise_signal(signal.SIGUSR1)
        assert calls.names == ["handler", f"former {signal.SIGUSR1.value}"]
        manager.close()
        assert signal.getsignal(signal.SIGUSR1) is former


def test_ignored_signal_stays_ignored(manager: CleanupManager, calls: Calls) -> None:
    """What the process was told to ignore (nohup) does not trigger a cleanup."""
    manager.register("handler", calls("handler"))
    with disposition(signal.SIGUSR1, signal.SIG_IGN):
        assert manager.install_signal_handlers((signal.SIGUSR1,)) == ()
        signal.raise_signal(signal.SIGUSR1)
    assert calls.names == []


def test_signal_during_cleanup_waits_for_its_end(calls: Calls) -> None:
    """A signal in the middle of a cleanup takes effect after the last handler; a second one at once."""

    def former(number: int, frame: object) -> None:
        calls.names.append("former")

    def handler(times: int) -> Callable[[], None]:
        def raises() -> None:
            for _ in range(times):
                signal.raise_signal(signal.SIGUSR1)
            calls.names.append(f"{times} raised")

        return raises

    with disposition(signal.SIGUSR1, former), CleanupManager() as manager:
        manager.install_signal_handlers((signal.SIGUSR1,))
        manager.register("rest", calls("rest"))
        manager.register("raises", handler(1))
        manager.run("test")
        assert calls.names == ["1 raised", "rest", "former"]
        calls.names.clear()
        manager.register("raises", handler(2))
        manager.run("test")
        assert calls.names == ["former", "2 raised", "former"]


def test_failures_at_a_signal_are_printed(
    manager: CleanupManager, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    """At a signal there is nobody to raise to, so failures go to stderr, and the signal still arrives."""
    manager.register("bad", fail)
    with disposition(signal.SIGUSR1, lambda number, frame: calls.names.append("former")):
        manager.install_signal_handlers((signal.SIGUSR1,))
        signal.raise_signal(signal.SIGUSR1)
        manager.close()
    assert "bad failed: ValueError: boom" in capsys.readouterr().err
    assert calls.names == ["former"]


def test_signals_taken_over_by_somebody_else_are_left_to_them(calls: Calls) -> None:
    """Who installed on top of the manager keeps the signal, and still reaches the former handler."""
    with disposition(signal.SIGUSR1, lambda number, frame: calls.names.append("former")):
        manager = CleanupManager()
        manager.install_signal_handlers((signal.SIGUSR1,))
        ours = signal.getsignal(signal.SIGUSR1)
        assert callable(ours)

        def on_top(number: int, frame: object) -> None:
            calls.names.append("on top")
            ours(number, frame)  # type: ignore[arg-type]

        signal.signal(signal.SIGUSR1, on_top)
        manager.close()
        assert signal.getsignal(signal.SIGUSR1) is on_top
        signal.raise_signal(signal.SIGUSR1)
    assert calls.names == ["on top", "former"]


def test_signals_need_the_main_thread(manager: CleanupManager) -> None:
    """Python allows signal handlers in the main thread only, and the error says so."""
    errors: list[BaseException] = []

    def install() -> None:
        try:
            manager.install_signal_handlers()
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=install)
    thread.start()
    thread.join(PATIENCE_S)
    assert "main thread" in str(errors[0])
