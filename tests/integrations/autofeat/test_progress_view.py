"""Progress as people see it: lines in a log, a live line on a terminal."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from memguard.units import GIB
from memguard.worker.recorder import JobProgress
from memguard_integrations.autofeat.progress_view import ProgressView, plain_line


def _all_of(screen: io.FileIO) -> Iterator[str]:
    # A terminal whose other side is closed ends with an error, not with an end of file.
    with contextlib.suppress(OSError):
        while part := screen.read(65536):
            yield part.decode()


AT = JobProgress("expand", "", 0.5, GIB, GIB, 2 * GIB, 12.0)


def test_a_line_tells_phase_memory_and_time() -> None:
    """One line has the phase, the share done where it is known, use against budget, and the time."""
    assert plain_line(AT) == "expand 50%: 1 GiB of 2 GiB, 12.0 s"
    assert plain_line(replace(AT, fraction=None)) == "expand: 1 GiB of 2 GiB, 12.0 s"


def test_without_a_terminal_each_phase_is_one_line() -> None:
    """A log gets a line when a phase begins, and not one for every look."""
    stream = io.StringIO()
    with ProgressView(stream) as view:
        for progress in (
            replace(AT, phase=""),
            AT,
            AT,
            replace(AT, phase="select"),
            replace(AT, phase="select"),
        ):
            view(progress)
        view.say("done")
    lines = stream.getvalue().splitlines()
    assert [line.split(" ")[1] for line in lines] == ["expand", "select", "done"]
    assert all(line.startswith("memguard: ") for line in lines)


def test_quiet_shows_sentences_only() -> None:
    """Quiet drops the progress and keeps what has to be said."""
    stream = io.StringIO()
    with ProgressView(stream, quiet=True) as view:
        view(AT)
        view.say("left out, constant: a")
    assert stream.getvalue() == "memguard: left out, constant: a\n"


def test_words_that_nobody_can_read_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stderr that is closed, full or has lost its reader costs the words; none of them goes anywhere else."""
    reader, writer = os.pipe()
    os.close(reader)
    told = io.StringIO()
    monkeypatch.setattr(sys, "stdout", told)
    with open(writer, "w") as unread, open("/dev/full", "w") as full, open("/dev/null", "w") as closed:
        closed.close()
        for stream in (None, unread, full, closed):
            monkeypatch.setattr(sys, "stderr", stream)
            with ProgressView() as view:
                view(AT)
                view.say("a sentence")
        unread.flush()
        full.flush()
    assert told.getvalue() == ""


def test_a_terminal_that_goes_away_costs_the_words() -> None:
    """A live line on a terminal whose window was closed is drawn no more, and nothing is raised."""
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal, ProgressView(terminal) as view:
        view(AT)
        os.close(master)
        view(replace(AT, phase="select"))
        view.say("a sentence")


def test_on_a_terminal_a_bar_shows_memory_against_budget() -> None:
    """A terminal gets a live line with phase, bar, figures; near the budget it says so in words too."""
    master, slave = pty.openpty()
    with os.fdopen(master, "rb", buffering=0) as screen:
        with os.fdopen(slave, "w") as terminal, ProgressView(terminal) as view:
            view(replace(AT, used_bytes=int(1.9 * GIB)))
            view.say("a sentence")
        shown = "".join(_all_of(screen))
    assert "expand" in shown
    assert "1.9 GiB of 2 GiB (near budget)" in shown
    assert "memguard: a sentence" in shown
