"""The log of a wrapped command's job: its start, its nearing the budget, its end and what follows from that."""

from __future__ import annotations

import sys
from collections.abc import Callable

from memguard.cli.exits import stderr_has_room
from memguard.events import Event, JsonScalar
from memguard.report import JobReport
from memguard.story import events_of
from memguard.units import format_duration
from memguard.worker.protocol import Message
from memguard.worker.recorder import JobProgress, JobRecorder

__all__ = ["LoggedRecorder", "note", "note_end"]


def note(name: str, job_id: str, **fields: JsonScalar) -> None:
    """Write an event to the log if somebody asked for one; where stderr is a full pipe it is lost."""
    if "memguard.log" in sys.modules and stderr_has_room():
        from memguard.log import log_event  # noqa: PLC0415 - who asked for a log has loaded it

        log_event(Event(name, job_id=job_id, fields=fields))


def note_end(report: JobReport) -> None:
    """Write how a job ended to the log."""
    note("memguard.job_ended", report.job_id, outcome=report.outcome.value, peak_bytes=report.peak_bytes)
    for event in events_of(report):
        note(event.name, event.job_id, **event.fields)


class LoggedRecorder(JobRecorder):
    """Writes to the log what it records of a command's start and of its nearing the budget."""

    def __init__(
        self, job_id: str, budget_bytes: int, warn_fraction: float, on_nearing: Callable[[str], None]
    ) -> None:
        super().__init__(budget_bytes, warn_fraction, on_nearing=on_nearing)
        self._job_id = job_id

    def take(self, message: Message, elapsed_s: float) -> JobProgress:
        """Record, and log the start."""
        if message["kind"] == "started":
            note("memguard.job_started", self._job_id, fence=message["fence"])
        progress = super().take(message, elapsed_s)
        if message["kind"] == "asked":
            self._tell_asked(message)
        return progress

    def _tell_asked(self, message: Message) -> None:
        if message["asked"] == "FROZEN":
            note("memguard.job_throttled", self._job_id)
            self._tell("made to wait: memory of the machine is short (memguard runbook JobThrottled)")
        elif message["before"] == "FROZEN" and message["asked"] != "KILL":
            note("memguard.job_released", self._job_id)
            self._tell(f"goes on; it was made to wait for {format_duration(self.throttled_s)} in all")

    def _tell(self, text: str) -> None:
        if self.on_nearing is not None:
            self.on_nearing(text)

    def warn_of_nearing(self, used_bytes: int, elapsed_s: float) -> None:
        """Record, and log it."""
        note("memguard.budget_neared", self._job_id, used_bytes=used_bytes, limit_bytes=self.budget_bytes)
        super().warn_of_nearing(used_bytes, elapsed_s)
