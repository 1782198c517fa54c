"""What a job told on its way, put in order: phases with their peaks, warnings, notes, batches. Pure.

Comes in: the keeper's messages with their times. Goes out: `JobProgress` for whoever watches, and the parts of the
report that only the running job knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from memguard.events import JsonScalar
from memguard.report import BatchSummary, PhaseReport, ReportWarning
from memguard.units import format_bytes
from memguard.worker.context import scalar_of, text_of
from memguard.worker.protocol import Message

__all__ = ["JobProgress", "JobRecorder"]

# What is asked of a job that is not to go on for a while: names of `memguard.ledger.board.Ask`.
_THROTTLES: Final = ("WAIT", "FROZEN")
# Of phases, warnings and notes each: what a report keeps of a job that never stops talking.
_MOST_KEPT: Final = 500


@dataclass(frozen=True, slots=True)
class JobProgress:
    """Where a running job is.

    Attributes:
        phase: the part it is in, ``""`` before the first.
        detail: what it says of it.
        fraction: done of the phase, 0 to 1, or ``None`` if it does not tell.
        used_bytes: latest sample.
        peak_bytes: highest sample.
        budget_bytes: its bound.
        elapsed_s: since its start.
    """

    phase: str
    detail: str
    fraction: float | None
    used_bytes: int
    peak_bytes: int
    budget_bytes: int
    elapsed_s: float


@dataclass(slots=True)
class JobRecorder:
    """Collects one job's messages; `progress` is where it is now."""

    budget_bytes: int
    warn_fraction: float
    progress: JobProgress = field(init=False)
    warnings: list[ReportWarning] = field(default_factory=list)
    notes: dict[str, JsonScalar] = field(default_factory=dict)
    batches: BatchSummary = field(default_factory=BatchSummary)
    fence: str = ""
    on_nearing: Callable[[str], None] | None = None
    throttles: int = 0
    throttled_s: float = 0.0
    _throttled_since_s: float | None = None
    _phases: list[PhaseReport] = field(default_factory=list)
    _phase_peak: int = 0
    _nearing_told: bool = False

    def __post_init__(self) -> None:
        self.progress = JobProgress("", "", None, 0, 0, self.budget_bytes, 0.0)

    def take(self, message: Message, elapsed_s: float) -> JobProgress:
        """Take one message; returns where the job is now."""
        match message["kind"]:
            case "started":
                self.fence = message["fence"]
            case "use" | "neared":
                self._take_use(message, elapsed_s)
            case "asked":
                self._take_ask(message["asked"], elapsed_s)
            case _:
                self._take_words(message, elapsed_s)
        self.progress = replace(self.progress, elapsed_s=elapsed_s)
        return self.progress

    def _take_words(self, message: Message, elapsed_s: float) -> None:
        match message["kind"]:
            case "phase":
                self._enter_phase(text_of(message["name"]), text_of(message["detail"]), elapsed_s)
            case "progress":
                self.progress = replace(self.progress, fraction=message["fraction"])
            case "warning":
                self._take_warning(text_of(message["text"]), elapsed_s)
            case "note":
                # A block in the caller's own process notes whatever it likes.
                self._take_note(text_of(message["key"]), scalar_of(message["value"]))
            case "batches":
                self.batches = BatchSummary(*message["figures"])

    def _take_ask(self, asked: str, elapsed_s: float) -> None:
        self.close_throttle(elapsed_s)
        if asked in _THROTTLES:
            self.throttles += 1
            self._throttled_since_s = elapsed_s
            self._take_warning("made to wait, because memory of the machine is short", elapsed_s)

    def close_throttle(self, elapsed_s: float) -> None:
        """Count a throttle that lasts as over now."""
        if self._throttled_since_s is not None:
            self.throttled_s += max(0.0, elapsed_s - self._throttled_since_s)
            self._throttled_since_s = None

    def _take_warning(self, text: str, elapsed_s: float) -> None:
        if len(self.warnings) < _MOST_KEPT:
            self.warnings.append(ReportWarning(elapsed_s, text))
        elif len(self.warnings) == _MOST_KEPT:
            self.warnings.append(ReportWarning(elapsed_s, "more warnings came, and are not kept"))

    def _take_note(self, key: str, value: JsonScalar) -> None:
        if len(self.notes) < _MOST_KEPT or key in self.notes:
            self.notes[key] = value

    def _take_use(self, message: Message, elapsed_s: float) -> None:
        used = message["used_bytes"]
        # A keeper tells some of what it sees, and the most of what it saw between.
        self._phase_peak = max(self._phase_peak, used, message.get("recent_peak_bytes", 0))
        self.progress = replace(self.progress, used_bytes=used, peak_bytes=message["peak_bytes"])
        if message["kind"] == "neared":
            self.warn_of_nearing(used, elapsed_s)

    def warn_of_nearing(self, used_bytes: int, elapsed_s: float) -> None:
        """Record that use crossed the warning line."""
        self._nearing_told = True
        share = f"{used_bytes / self.budget_bytes:.0%}" if self.budget_bytes else "all"
        text = f"use reached {format_bytes(used_bytes)}, {share} of the budget of {format_bytes(self.budget_bytes)}"
        self.warnings.append(ReportWarning(elapsed_s, text))
        if self.on_nearing is not None:
            self.on_nearing(text)

    @property
    def nearing_was_told(self) -> bool:
        """Whether a crossing of the warning line was recorded."""
        return self._nearing_told

    def _enter_phase(self, name: str, detail: str, elapsed_s: float) -> None:
        self._close_phase(elapsed_s)
        if len(self._phases) == _MOST_KEPT:
            del self._phases[0]
        self._phases.append(PhaseReport(name, elapsed_s, 0.0, 0))
        self._phase_peak = self.progress.used_bytes
        self.progress = replace(self.progress, phase=name, detail=detail, fraction=None)

    def _close_phase(self, elapsed_s: float) -> None:
        if self._phases:
            last = self._phases[-1]
            self._phases[-1] = replace(
                last, duration_s=max(0.0, elapsed_s - last.started_s), peak_bytes=self._phase_peak
            )

    def phases(self, elapsed_s: float) -> tuple[PhaseReport, ...]:
        """Return the phases, the last one ended at ``elapsed_s``."""
        self._close_phase(elapsed_s)
        return tuple(self._phases)
