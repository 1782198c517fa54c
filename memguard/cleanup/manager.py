"""`CleanupManager`: runs handlers in order, in time, once, whatever happens to them."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from signal import Signals
from types import EllipsisType, TracebackType
from typing import Final, Self
from weakref import WeakSet, ref

from memguard.aside import complete_aside
from memguard.cleanup.emergency import Emergency, own_private_bytes
from memguard.cleanup.family import Family
from memguard.cleanup.handlers import (
    CleanupHandle,
    Entry,
    check_handler,
    check_registration,
    weak_call,
)
from memguard.cleanup.reports import CleanupReport, HandlerOutcome, HandlerResult, Occasion, event_of
from memguard.cleanup.runner import Runner
from memguard.cleanup.schedule import OnlySchedule, StopEvent
from memguard.cleanup.signals import TERMINATING, SignalRelay, tell_failures
from memguard.cleanup.table import HandlerTable
from memguard.events import EventBus
from memguard.memory import Sheds

__all__ = ["CleanupManager"]

_AT_THE_END: Final = frozenset({Occasion.NORMAL})
_STUCK_SCHEDULE: Final = HandlerResult(
    "schedule", HandlerOutcome.OVERRAN, detail="its thread is still in a handler and was left behind"
)


class CleanupManager:
    """Runs cleanup handlers: children before their parents, siblings last registered first.

    A handler without a deadline is called in the thread that runs the cleanup; one with a deadline in a
    daemon thread of its own. Python cannot kill a thread: a handler that overruns is reported, counted in
    `overrunning` and left behind, and may still finish. Where no thread can be started (at interpreter
    exit from Python 3.12 on, or when the machine refuses) it is called in place; its deadline is only told.

    Handlers that run at the end only are called once, however many threads, signals and exit hooks ask at the
    same time; a run that finds one at work waits for it, so that no parent goes before its child. Others are
    called on each occasion. Registered handlers also run at interpreter exit, in this process only: a forked
    child starts with none. Thread safe. Does not promise anything when the process is killed.

    Attributes:
        last_report: of the run that ended last, ``None`` before.
        enclosing: the manager whose emergencies reach this one, or ``None``.
    """

    def __init__(
        self,
        *,
        events: EventBus | None = None,
        job_id: str = "",
        read_private_bytes: Callable[[], int] | None = None,
        make_event: Callable[[], StopEvent] = threading.Event,
        enclosing: CleanupManager | None = None,
        deadline_s: float | None = None,
        interval_s: float | None = None,
    ) -> None:
        """Make a manager without handlers, threads or hooks.

        Args:
            events: gets ``memguard.cleanup_finished`` after each run that had handlers to call.
            job_id: rides on those events.
            read_private_bytes: measures this process before and after an emergency; by default exactly.
            make_event: makes what the schedule waits on.
            enclosing: a manager whose emergencies reach this one's handlers too, before its own.
            deadline_s: seconds for handlers that are registered without a deadline of theirs; ``None`` for no limit.
            interval_s: starts the schedule with the first scheduled handler; ``None`` leaves it to `start_schedule`.
        """
        self.last_report: CleanupReport | None = None
        self._events = events
        self._job_id = job_id
        self._read_private_bytes = read_private_bytes or own_private_bytes
        self._table = HandlerTable()
        self._runner = Runner(self._table)
        self.enclosing = enclosing
        self._family: Family = Family(self._runner, None if enclosing is None else enclosing._family)
        self._deadline_s, self._interval_s = deadline_s, interval_s
        self._exit_hooked = False
        # Told of this manager when they are asked for: it would else never die by itself.
        self._relay: SignalRelay | None = None
        self._schedule = OnlySchedule(make_event)
        _managers.add(self)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called: nothing can be registered, and only a further `close` calls handlers."""
        return self._table.is_closed

    def register(
        self,
        name: str,
        handler: Callable[[], object],
        *,
        parent: CleanupHandle | None = None,
        deadline_s: float | EllipsisType | None = ...,
        on: Iterable[Occasion | str] = tuple(_AT_THE_END),
        once: bool | None = None,
    ) -> CleanupHandle:
        """Add a handler, which the manager holds until it has run once, is unregistered, or the process ends.

        Args:
            name: what reports call it.
            handler: called without arguments; a whole number that it returns counts as bytes freed.
            parent: a handler of this manager that must run later.
            deadline_s: seconds it may take, more than 0; ``None`` for no limit; ``...`` for the manager's own.
            on: the occasions to run it.
            once: whether it is called once in all; by default when it runs at the end only.

        Raises:
            TypeError: a handler that cannot be called, or a coroutine function.
            ValueError: an impossible deadline or occasion, or a parent that is not registered here.
            RuntimeError: the manager is closed.
        """
        deadline_s = self._deadline_s if deadline_s is ... else deadline_s
        occasions = check_registration(name, deadline_s, on)
        check_handler(name, handler)
        entry = self._table.add(
            name,
            lambda _: handler(),
            occasions=occasions,
            parent=None if parent is None else parent.entry,
            deadline_s=deadline_s,
            once=occasions == _AT_THE_END if once is None else once,
        )
        return self._registered(entry)

    def register_weak(
        self,
        owner: object,
        method_name: str,
        *,
        name: str | None = None,
        parent: CleanupHandle | None = None,
        deadline_s: float | EllipsisType | None = ...,
        on: Iterable[Occasion | str] = tuple(_AT_THE_END),
        once: bool | None = None,
    ) -> CleanupHandle:
        """Add a method as a handler without keeping its owner alive; it goes when the owner goes.

        Args:
            owner: anything that can be weakly referenced.
            method_name: called on it without arguments.
            name: by default the type's and the method's.
            parent: as for `register`.
            deadline_s: as for `register`.
            on: as for `register`.
            once: as for `register`.

        Raises:
            AttributeError: there is no such method.
            TypeError: the owner cannot be weakly referenced; the rest as for `register`.
        """
        shown = name or f"{type(owner).__name__}.{method_name}"
        # Asked for now, so that a wrong name is told here and not at the end of the process.
        check_handler(shown, getattr(owner, method_name))
        call = weak_call(ref(owner), method_name)
        handle = self.register(shown, call, parent=parent, deadline_s=deadline_s, on=on, once=once)
        self._table.drop_with(handle.entry, owner)
        return handle

    def register_sheddable(self, name: str, sheddable: Sheds) -> CleanupHandle:
        """Add a cache or a pool, weakly, to the first stage of an emergency.

        Raises:
            TypeError: it cannot be weakly referenced.
            RuntimeError: the manager is closed.
        """
        weak = ref(sheddable)

        def shed(target_bytes: int) -> int:
            alive = weak()
            return 0 if alive is None else alive.shed(target_bytes)

        emergency = frozenset({Occasion.EMERGENCY})
        entry = self._table.add(name, shed, occasions=emergency, sheds=True, deadline_s=self._deadline_s)
        self._table.drop_with(entry, sheddable)
        return self._registered(entry)

    def _registered(self, entry: Entry) -> CleanupHandle:
        if not self._exit_hooked:
            self._exit_hooked = True
            atexit.register(self._at_exit)
        if Occasion.SCHEDULED in entry.occasions and self._interval_s is not None:
            try:
                self._schedule.start(self.run_scheduled, self._interval_s, or_keep=True)
            except BaseException:
                self._table.remove(entry)  # whoever sees an error has registered nothing
                raise
        return self._table.handle(entry)

    def planned(self, occasion: Occasion = Occasion.NORMAL) -> tuple[str, ...]:
        """Return the names of the handlers that are due on an occasion, first called first."""
        return tuple(entry.name for entry in self._table.due(occasion))

    @property
    def overrunning(self) -> tuple[str, ...]:
        """Handlers that overran their deadline and are still at it, each in a thread left behind."""
        return self._runner.overrunning

    def run(self, reason: str) -> CleanupReport:
        """Call the handlers for the end; every one is called, whatever the others do.

        Args:
            reason: why, for the report.

        Returns:
            How each ended; errors are in it, not raised. See `CleanupReport.raise_if_failed`.

        Raises:
            BaseException: what is no `Exception` (Ctrl-C, SystemExit), after all handlers had their turn;
                the report is then in `last_report`.
            RuntimeError: it was called from within a handler of this manager.
            ExceptionGroup: subscribers to the event failed.
        """
        return self._run(reason, Occasion.NORMAL)

    def run_emergency(self, reason: str = "emergency", *, target_bytes: int | None = None) -> CleanupReport:
        """Free memory while work goes on: what sheds, then other emergency handlers, then one collection.

        Managers inside this one come before it, the last made first, each with both stages.

        Args:
            reason: why, for the report.
            target_bytes: how much those that shed are asked for in all, each for what the ones before it
                left over; ``None`` for all they can. The later stages run in any case.

        Returns:
            The report, with this process's private memory measured before and after.

        Raises:
            BaseException: as for `run`.
        """
        target = sys.maxsize if target_bytes is None else target_bytes
        return self._run(reason, Occasion.EMERGENCY, target_bytes=target)

    def run_scheduled(self, reason: str = "schedule") -> CleanupReport:
        """Call the scheduled handlers now. Raises as `run` does."""
        return self._run(reason, Occasion.SCHEDULED)

    async def async_run(self, reason: str) -> CleanupReport:
        """Do `run` in a thread, without blocking the event loop.

        A cancellation waits until the cleanup is done, and then goes on.
        """
        return await complete_aside(lambda: self.run(reason), "memguard-cleanup")

    def _run(
        self,
        reason: str,
        occasion: Occasion,
        *,
        target_bytes: int = 0,
        first: tuple[HandlerResult, ...] = (),
    ) -> CleanupReport:
        self._refuse_from_within(reason, occasion)
        interrupts: list[BaseException] = []
        started_s = time.monotonic()
        if occasion is Occasion.EMERGENCY:
            stages = Emergency(self._family.runners(), self._read_private_bytes)
            results, freed_bytes = stages.run(target_bytes, interrupts)
        else:
            results, freed_bytes = self._runner.run(occasion, 0, interrupts), None
        took_s = time.monotonic() - started_s
        report = CleanupReport(reason, occasion, (*first, *results), took_s, freed_bytes)
        self._finish(report, interrupts)
        return report

    def _refuse_from_within(self, reason: str, occasion: Occasion) -> None:
        reached = self._family.runners() if occasion is Occasion.EMERGENCY else [self._runner]
        if any(runner.is_busy for runner in reached):
            raise RuntimeError(f"cleanup ({reason}) was asked for from within a cleanup handler")

    def _finish(self, report: CleanupReport, interrupts: list[BaseException]) -> None:
        self.last_report = report
        try:
            self._publish(report)
        finally:
            if self._relay is not None:
                self._relay.deliver_held()
            if interrupts:
                raise interrupts[0]

    def _publish(self, report: CleanupReport) -> None:
        if self._events is not None and report.results:
            self._events.publish(event_of(report, self._job_id))

    def start_schedule(self, interval_s: float = 300.0) -> None:
        """Call the scheduled handlers every ``interval_s`` seconds on one daemon thread, until `close`.

        Raises:
            RuntimeError: it runs already, or the manager is closed.
            ValueError: for an interval that is not positive.
        """
        self._schedule.start(self.run_scheduled, interval_s)

    def install_signal_handlers(self, signals: Iterable[Signals] = TERMINATING) -> tuple[Signals, ...]:
        """Clean up at these signals, then let each have its former effect: a handler, or death of the signal.

        A signal that is ignored, or that code outside of Python handles, is left alone. One that comes
        during a cleanup waits for its end; a second one does not. Given back at `close`, in the main thread.

        Args:
            signals: by default SIGTERM, and SIGHUP where there is one.

        Returns:
            Those that were taken over now.

        Raises:
            RuntimeError: outside of the main thread.
        """
        if self._relay is None:
            self._relay = SignalRelay(self._run_for_signal, lambda: self._runner.is_busy)
        return self._relay.install(signals)

    def _restore_signals(self) -> None:
        if self._relay is not None and self._relay.restore():
            self._relay = None

    def _run_for_signal(self, reason: str) -> None:
        if self.planned():
            tell_failures(self.run(reason))

    def _at_exit(self) -> None:
        # Raised errors of exit hooks are printed by Python and do not change the exit status.
        self.close("interpreter exit").raise_if_failed()

    def close(self, reason: str = "closed") -> CleanupReport:
        """Stop the schedule, do `run`, give back signals and hooks; nothing can be registered afterwards.

        Once or many times. Returns and raises as `run` does.
        """
        self._refuse_from_within(reason, Occasion.NORMAL)
        # Before the run: what came in later would be run by nobody.
        self._table.is_closed = True
        stuck = () if self._schedule.close() else (_STUCK_SCHEDULE,)
        try:
            return self._run(reason, Occasion.NORMAL, first=stuck)
        finally:
            self._restore_signals()
            atexit.unregister(self._at_exit)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; failures are raised, or noted on the error that ended the block."""
        report = self.close("end of the block" if error is None else f"{type(error).__name__} in the block")
        if error is None:
            report.raise_if_failed()
        else:
            for line in report.failures:
                error.add_note(f"cleanup: {line}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await complete_aside(lambda: self.__exit__(kind, error, trace), "memguard-cleanup")
        finally:
            self._restore_signals()  # which the other thread may not do

    def start_over(self) -> None:
        """Forget everything, as a forked child must: what there is belongs to its parent."""
        self._table.start_over()
        self._runner.start_over()
        self._family.start_over()
        self._schedule.start_over()


def _start_over_in_child() -> None:
    for manager in list(_managers):
        manager.start_over()


_managers: WeakSet[CleanupManager] = WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_over_in_child)
