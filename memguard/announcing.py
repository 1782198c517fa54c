"""What happens to jobs, told to subscribers; none of whom can harm a job.

Comes in: messages of a job, and words of its manager. Goes out: events (`memguard.events`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from memguard.config import Settings
from memguard.episodes.recorder import Recorder
from memguard.events import Event, EventBus
from memguard.leasing import actions_of
from memguard.log import get_logger, log_event
from memguard.redact import redact_error
from memguard.report import JobReport
from memguard.story import events_of
from memguard.worker.compose import JobFrame
from memguard.worker.protocol import Message
from memguard.worker.recorder import JobProgress

if TYPE_CHECKING:
    from memguard.jobs import Call

__all__ = ["Announcer", "ProgressCallback"]

ProgressCallback = Callable[[JobProgress], None]


class Announcer:
    """Publishes on a bus of its own.

    Args:
        settings: say whether jobs are recorded, and where.

    Attributes:
        bus: what to subscribe to; the log has subscribed already.
    """

    def __init__(self, settings: Settings) -> None:
        self.bus = EventBus()
        self.bus.subscribe(log_event)
        self._settings = settings
        self._recorder = Recorder(
            settings, lambda fault: self.publish("memguard.guard_degraded", "", fault=fault)
        )

    def publish(self, event: str, job_id: str, **fields: Any) -> None:
        """Tell the subscribers. What they do wrong is logged: a job must not die of its spectators."""
        self.announce(Event(event, job_id=job_id, fields=fields))

    def announce(self, event: Event) -> None:
        """Tell the subscribers of an event that was made elsewhere."""
        try:
            self.bus.publish(event)
        except ExceptionGroup as group:
            log = get_logger("memguard.events")
            for error in group.exceptions:
                log.error(
                    "a subscriber failed", told=event.name, job_id=event.job_id, error=redact_error(error)
                )

    def ended(self, report: JobReport) -> None:
        """Tell that a job ended."""
        self.publish(
            "memguard.job_ended", report.job_id, outcome=report.outcome.value, peak_bytes=report.peak_bytes
        )

    def requeued(self, report: JobReport, limit_bytes: int) -> None:
        """Tell that a job is run again, with more."""
        had = report.budget.limit_bytes
        self.publish("memguard.job_requeued", report.job_id, had_bytes=had, limit_bytes=limit_bytes)

    def consequences(self, report: JobReport, call: Call | None = None) -> None:
        """Tell what follows from how a job or a block ended, and have it recorded."""
        _, args, kwargs = call.words if call is not None else (None, (), {})
        self._recorder.job(report, (args, kwargs), actions_of(self._settings, report.job_id))
        for event in events_of(report):
            self.announce(event)

    def close(self) -> None:
        """Wait for what is written down just now."""
        self._recorder.close()

    def listener(
        self, frame: JobFrame, on_progress: ProgressCallback | None
    ) -> Callable[[Message, JobProgress], None]:
        """Return what a job's messages are passed to: it tells subscribers, then whoever follows this job."""

        def hear(message: Message, progress: JobProgress) -> None:
            self.message(frame, message)
            if on_progress is not None:
                on_progress(progress)

        return hear

    def message(self, frame: JobFrame, message: Message) -> None:
        """Tell what a job's keeper said, where that is news for subscribers."""
        match message["kind"]:
            case "started":
                self.publish("memguard.job_started", frame.job_id, pid=message["pid"], fence=message["fence"])
            case "neared":
                self.publish(
                    "memguard.budget_neared",
                    frame.job_id,
                    used_bytes=message["used_bytes"],
                    limit_bytes=frame.limit_bytes,
                )
            case "asked":
                if message["asked"] == "FROZEN":
                    self.publish("memguard.job_throttled", frame.job_id)
                elif message["before"] == "FROZEN" and message["asked"] != "KILL":
                    self.publish("memguard.job_released", frame.job_id)
            case "phase":
                self.publish("memguard.phase_entered", frame.job_id, phase=message["name"])
