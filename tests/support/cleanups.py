"""What tests of cleanups share: handlers that note their calls, one that fails, and what became of each."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from memguard.cleanup import CleanupManager

PATIENCE_S = 10.0


class Calls:
    """Notes who was called, in which order."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, name: str, returned: object = None) -> Callable[[], object]:
        def handler() -> object:
            self.names.append(name)
            return returned

        return handler


def fail() -> None:
    raise ValueError("boom")


def outcomes(manager: CleanupManager) -> list[str]:
    assert manager.last_report is not None
    return [result.outcome for result in manager.last_report.results]


def join_handler_threads() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("memguard-cleanup-"):
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


class Cache:
    """Gives back what it has."""

    def __init__(self, count_bytes: int) -> None:
        self.count_bytes = count_bytes
        self.asked: list[int] = []
        self.closed = 0

    def shed(self, target_bytes: int) -> int:
        self.asked.append(target_bytes)
        given = min(target_bytes, self.count_bytes)
        self.count_bytes -= given
        return given

    def close(self) -> int:
        self.closed += 1
        return 7


@contextmanager
def gc_disabled() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
