"""Work to do before a signal has the effect it would have had anyway."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, Final

from memguard.cleanup.reports import CleanupReport
from memguard.errors import CleanupFailed

__all__ = ["TERMINATING", "SignalRelay", "tell_failures"]

# What ends a process politely; SIGHUP is not known everywhere. SIGINT is left to Python's KeyboardInterrupt,
# which ends ``with`` blocks anyway.
TERMINATING: Final = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class SignalRelay:
    """Does some work at a signal, then hands the signal to whoever had it before.

    A former Python handler is called; the default effect is brought about by the signal itself, so that a
    parent sees the status of a process that died of it. A signal that was ignored (``nohup``) or belongs
    to a handler outside of Python is left alone. While ``is_busy`` says that this thread is at the work
    already, a first signal is held until `deliver_held`; a second one in all is handed on at once.
    """

    def __init__(self, work: Callable[[str], None], is_busy: Callable[[], bool]) -> None:
        self._work = work
        self._is_busy = is_busy
        self._former: dict[int, Any] = {}
        self._held: list[tuple[int, FrameType | None]] = []
        self._answering = False

    def install(self, signals: Iterable[signal.Signals]) -> tuple[signal.Signals, ...]:
        """Take over signals; return those that were taken over now.

        Raises:
            RuntimeError: outside of the main thread, where Python allows no signal handlers.
        """
        if not _in_main_thread():
            raise RuntimeError("signal handlers can be installed in the main thread only")
        return tuple(each for each in signals if self._take_over(each))

    def _take_over(self, number: signal.Signals) -> bool:
        former = signal.getsignal(number)
        if number in self._former or former in (signal.SIG_IGN, None):
            return False
        self._former[number] = former
        signal.signal(number, self._on_signal)
        return True

    def restore(self) -> bool:
        """Give the signals back where they are still ours; in another thread than the main one, do nothing.

        Returns:
            Whether all were given back; those that were not only hand on what comes.
        """
        for number in list(self._former) if _in_main_thread() else ():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, self._former.pop(number))
        return not self._former

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self._is_busy():
            self._answer(number, frame)
        elif self._held or self._answering:
            self._hand_on(number, frame)
        else:
            self._held.append((number, frame))

    def _answer(self, number: int, frame: FrameType | None) -> None:
        self._answering = True
        try:
            self._work(f"signal {signal.Signals(number).name}")
        finally:
            self._answering = False
            self._hand_on(number, frame)

    def deliver_held(self) -> None:
        """Hand on what came while this thread was busy; does nothing elsewhere than in the main thread."""
        while self._held and _in_main_thread():
            self._hand_on(*self._held.pop())

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        former = self._former.get(number, signal.SIG_DFL)
        if callable(former):
            former(number, frame)
        else:
            signal.signal(number, former)
            signal.raise_signal(number)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def tell_failures(report: CleanupReport) -> None:
    """Print what failed, as Python does for an exit hook: at a signal there is nobody to raise it to."""
    try:
        report.raise_if_failed()
    except CleanupFailed as error:
        sys.excepthook(type(error), error, error.__traceback__)
