"""Where a run of ``memguard autofeat`` is: for people, as lines of a JSON log, or not at all."""

from __future__ import annotations

import io

from memguard.cli.exits import log_is_json, say
from memguard.worker.recorder import JobProgress
from memguard_integrations.autofeat.progress_view import ProgressView

__all__ = ["view_for"]


class _LogView(ProgressView):
    """Says in the log what else would be said on stderr."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())  # no terminal, so that there is no live line

    def say(self, sentence: str) -> None:
        say(sentence)


class _NoView(ProgressView):
    """Says nothing."""

    def __init__(self) -> None:
        super().__init__(io.StringIO(), quiet=True)

    def say(self, sentence: str) -> None:
        pass

    def __call__(self, progress: JobProgress) -> None:
        pass


def view_for(*, quiet: bool) -> ProgressView:
    """Return what shows a run."""
    if quiet:
        return _NoView()
    return _LogView() if log_is_json() else ProgressView()
