"""Where a run is, on stderr: a live line on a terminal, a plain line now and then where there is none."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TextIO, cast

from memguard.files import LossyStream
from memguard.units import format_bytes, format_duration
from memguard.worker.recorder import JobProgress

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

__all__ = ["ProgressView", "plain_line"]

# A log keeps every line: a phase's begin, and then one often enough to see that it lives.
_PLAIN_INTERVAL_S: Final = 30.0
# With it all a line has at most 80 cells, the least that a terminal has.
_BAR_WIDTH: Final = 14
# From here on the bar changes its colour, and the words beside it say so too.
_NEAR: Final = 0.8


class ProgressView:
    """Shows progress, and sentences in between; a context manager.

    What cannot be shown is lost: a reader who has gone is no reason why a job fails.

    Args:
        stream: where to; ``None`` for stderr, if there is one.
        quiet: show sentences only.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = cast("TextIO", LossyStream(stream if stream is not None else sys.stderr))
        self._quiet = quiet
        self._live: Live | None = None
        self._phase = ""
        self._next_s = 0.0
        self._start_s = time.monotonic()

    def __enter__(self) -> Self:
        if not self._quiet and self._stream.isatty():
            # rich takes 60 ms to import, and is of no use without a terminal.
            from rich.console import Console  # noqa: PLC0415
            from rich.live import Live  # noqa: PLC0415

            console = Console(file=self._stream, highlight=False, soft_wrap=True)
            self._live = Live(console=console, refresh_per_second=8, transient=True)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, sentence: str) -> None:
        """Write a sentence above the progress."""
        if self._live is not None:
            self._live.console.print(f"memguard: {sentence}", markup=False)
        else:
            print(f"memguard: {sentence}", file=self._stream, flush=True)

    def __call__(self, progress: JobProgress) -> None:
        """Show where the job is."""
        if self._live is not None:
            self._live.update(_live_line(progress, time.monotonic() - self._start_s))
        elif not self._quiet and self._is_due(progress):
            self.say(plain_line(progress))

    def _is_due(self, progress: JobProgress) -> bool:
        now_s = time.monotonic()
        if not progress.phase or (progress.phase == self._phase and now_s < self._next_s):
            return False
        self._phase, self._next_s = progress.phase, now_s + _PLAIN_INTERVAL_S
        return True


def plain_line(progress: JobProgress) -> str:
    """Return where the job is as one line: phase, share done, memory against budget, time."""
    done = "" if progress.fraction is None else f" {progress.fraction:.0%}"
    return f"{progress.phase}{done}: {_memory(progress)}, {format_duration(progress.elapsed_s)}"


def _memory(progress: JobProgress) -> str:
    return f"{format_bytes(progress.used_bytes)} of {format_bytes(progress.budget_bytes)}"


def _live_line(progress: JobProgress, elapsed_s: float) -> Table:
    from rich.progress_bar import ProgressBar  # noqa: PLC0415
    from rich.spinner import Spinner  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    near = progress.used_bytes >= _NEAR * progress.budget_bytes
    style = "red" if near else "green"
    grid = Table.grid(padding=(0, 1))
    for _ in range(6):
        grid.add_column(no_wrap=True)
    done = "" if progress.fraction is None else f"{progress.fraction:.0%}"
    bar = ProgressBar(
        total=progress.budget_bytes,
        completed=progress.used_bytes,
        width=_BAR_WIDTH,
        complete_style=style,
        finished_style=style,
    )
    memory = f"{_memory(progress)}{' (near budget)' if near else ''}"
    grid.add_row(
        Spinner("dots"),
        f"{progress.phase or 'start':<9}",
        f"{done:>4}",
        bar,
        memory,
        format_duration(elapsed_s),
    )
    return grid
