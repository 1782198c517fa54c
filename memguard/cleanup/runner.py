"""Calls the handlers that are due: each in its turn and time, each once, whatever the others do."""

from __future__ import annotations

import threading
import time

from memguard.cleanup.handlers import Entry, Execution
from memguard.cleanup.reports import HandlerOutcome, HandlerResult, Occasion
from memguard.cleanup.table import HandlerTable

__all__ = ["Runner"]


class Runner:
    """Runs the handlers of one table, from any number of threads at a time."""

    def __init__(self, table: HandlerTable) -> None:
        self._table = table
        self._busy: set[int] = set()
        self._overdue: list[tuple[str, Execution]] = []

    @property
    def is_busy(self) -> bool:
        """Whether this thread runs handlers, or is one that a handler was given."""
        return threading.get_ident() in self._busy

    @property
    def overrunning(self) -> tuple[str, ...]:
        """Handlers that were given up and still go on."""
        self._overdue = [each for each in self._overdue if not each[1].finished.is_set()]
        return tuple(name for name, _ in self._overdue)

    def run(
        self, occasion: Occasion, target_bytes: int, interrupts: list[BaseException]
    ) -> list[HandlerResult]:
        """Call all that are due.

        Args:
            occasion: which are due.
            target_bytes: how much those that shed are asked for in all.
            interrupts: gets what is raised in between and is no `Exception`, Ctrl-C above all.
        """
        here = threading.get_ident()
        results = []
        self._busy.add(here)
        try:
            for entry in self._table.due(occasion):
                result = self._perform_in_any_case(entry, target_bytes, interrupts)
                target_bytes = max(0, target_bytes - (result.freed_bytes or 0))
                results.append(result)
        finally:
            self._busy.discard(here)
        return results

    def _perform_in_any_case(
        self, entry: Entry, target_bytes: int, interrupts: list[BaseException]
    ) -> HandlerResult:
        try:
            return self._perform(entry, target_bytes, interrupts)
        except BaseException as error:  # noqa: BLE001 - Ctrl-C between two steps; raised by the manager, after the rest
            interrupts.append(error)
            return HandlerResult(entry.name, HandlerOutcome.FAILED, detail="interrupted")

    def _perform(self, entry: Entry, target_bytes: int, interrupts: list[BaseException]) -> HandlerResult:
        if entry.sheds and not target_bytes:
            return _skipped(entry, "the target was met before")
        while (execution := self._table.claim(entry)) is None:
            other = entry.execution
            if entry not in self._table or other is None:
                return _skipped(entry, "ran or was taken out meanwhile")
            if not _wait(other, entry.deadline_s, interrupts):
                return _skipped(entry, "an earlier call is still at it")
        try:
            self._execute(entry, execution, target_bytes, interrupts)
        except BaseException:
            execution.finished.set()  # or others would wait for it for ever
            raise
        if execution.interrupt is not None:
            interrupts.append(execution.interrupt)
            execution.interrupt = None
        return execution.result(entry.name, entry.deadline_s)

    def _execute(
        self, entry: Entry, execution: Execution, target_bytes: int, interrupts: list[BaseException]
    ) -> None:
        work = (entry, execution, target_bytes)
        if entry.deadline_s is None:
            self._call(*work)
            return
        name = f"memguard-cleanup-{entry.name}"
        thread = threading.Thread(target=self._call, args=work, name=name, daemon=True)
        try:
            thread.start()
        except BaseException as error:  # noqa: BLE001 - no thread to be had, or Ctrl-C while it started
            if not isinstance(error, RuntimeError):
                interrupts.append(error)
            self._call(*work)  # does nothing where the thread has begun all the same
        if not _wait(execution, entry.deadline_s, interrupts):
            self._overdue.append((entry.name, execution))

    def _call(self, entry: Entry, execution: Execution, target_bytes: int) -> None:
        if not execution.begin():
            return
        here = threading.get_ident()
        own_thread = here not in self._busy
        self._busy.add(here)
        try:
            execution.perform(entry.call, target_bytes)
        finally:
            if entry.once:
                self._table.remove(entry)
            execution.finished.set()
            if own_thread:
                self._busy.discard(here)

    def start_over(self) -> None:
        """Forget the threads, as a forked child must: only the one that forked is there."""
        self._busy = set()
        self._overdue = []


def _skipped(entry: Entry, why: str) -> HandlerResult:
    return HandlerResult(entry.name, HandlerOutcome.SKIPPED, detail=why)


def _wait(execution: Execution, deadline_s: float | None, interrupts: list[BaseException]) -> bool:
    """Wait until a call is over or overdue; a first Ctrl-C is noted and waited through, a second ends it."""
    while True:
        left_s = None if deadline_s is None else max(0.0, execution.started_s + deadline_s - time.monotonic())
        try:
            return execution.finished.wait(left_s)
        except BaseException as error:  # noqa: BLE001 - raised by the manager, after all handlers had their turn
            interrupts.append(error)
            if len(interrupts) > 1:
                return False
