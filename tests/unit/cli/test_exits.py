"""Every error has its exit status and its line, and lines that cannot be written harm nobody."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

import click
import pytest

from memguard import errors
from memguard.cli.exits import (
    printable,
    say,
    say_nowait,
    status_of_command,
    status_of_error,
    tell_error,
)
from memguard.cli.main import COMMANDS
from memguard.files import give_up_on
from memguard.report import Outcome, report_from_json

STATUSES = {
    "BatchError": 1,
    "CapacityExceeded": 2,
    "CleanupFailed": 1,
    "ConfigError": 2,
    "DataError": 2,
    "DurationSyntaxError": 2,
    "EpisodeConflict": 1,
    "EpisodeInvalid": 2,
    "EpisodeMissing": 1,
    "EpisodeStoreBusy": 1,
    "EpisodeStoreError": 1,
    "JobCrashed": 1,
    "JobError": 1,
    "JobInterrupted": 130,
    "JobLost": 1,
    "JobTimeout": 124,
    "MemguardError": 1,
    "MemoryLimitExceeded": 137,
    "MissingExtra": 125,
    "LedgerError": 125,
    "OutputError": 1,
    "ReservationTimeout": 125,
    "SizeSyntaxError": 2,
    "StateMismatch": 1,
    "TransferError": 1,
    "WorkerStartError": 125,
}
FIELDS = {
    "text": "x", "setting": "x", "origin": "x", "subject": "x", "remedy": "x", "path": "x", "requested_bytes": 1,
    "capacity_bytes": 1, "limited_by": "x", "free_bytes": 1, "holders": (), "failures": (), "extra": "x",
    "start": 0, "stop": 1, "episode_id": "x", "missing": (), "unexpected": (),
}  # fmt: skip


def an_error(name: str) -> BaseException:
    """Make an error of a kind, with something in each field that it asks for."""
    kind = getattr(errors, name)
    names = kind.__init__.__code__.co_varnames[
        : kind.__init__.__code__.co_argcount + kind.__init__.__code__.co_kwonlyargcount
    ]
    made = kind("what happened", **{each: FIELDS[each] for each in names if each in FIELDS})
    assert isinstance(made, BaseException)
    return made


@pytest.mark.parametrize("name", errors.__all__)
def test_each_error_has_a_status(name: str) -> None:
    """No error of memguard's own is met with a traceback, and a new one has to be given its status here."""
    assert status_of_error(an_error(name)) == STATUSES[name]


def test_a_fault_of_memguard_has_none() -> None:
    """What is not an error of memguard's own is a fault, and its traceback is wanted."""
    assert [status_of_error(error) for error in (ValueError("x"), OSError(5, "x"), AssertionError())] == [
        None
    ] * 3
    assert status_of_error(KeyboardInterrupt()) == 130


def test_an_error_is_one_line_of_its_own_words(capsys: pytest.CaptureFixture[str]) -> None:
    """Each error is told on stderr behind `memguard: `; a wrong usage says where help is, in one line."""
    for name in errors.__all__:
        tell_error(an_error(name))
    told = capsys.readouterr()
    assert (told.out, told.err.count("memguard: "), told.err.count("\n")) == ("", *[len(errors.__all__)] * 2)
    with pytest.raises(click.BadParameter) as caught:
        click.Choice(["one", "two"]).convert(
            "three", None, click.Context(click.Command("thing"), info_name="thing")
        )
    tell_error(caught.value)
    assert capsys.readouterr().err.endswith("(see `thing --help`)\n")


@pytest.mark.parametrize(
    ("outcome", "exit_code", "status"),
    [
        (Outcome.COMPLETED, 0, 0),
        (Outcome.RAISED, 42, 42),
        (Outcome.SIGNAL, -11, 139),
        (Outcome.TIMEOUT, -15, 143),
        (Outcome.BUDGET_KILL, 1, 137),
        (Outcome.BUDGET_KILL, -9, 137),
        (Outcome.KERNEL_OOM, 0, 137),
        (Outcome.INTERRUPTED, -2, 130),
    ],
)
def test_the_status_of_a_command(outcome: Outcome, exit_code: int, status: int) -> None:
    """Its own status, 128 + n for a signal, 137 for a kill for memory whatever the command said itself."""
    assert status_of_command(a_report(outcome), exit_code) == status


def a_report(outcome: Outcome):  # type: ignore[no-untyped-def]
    return report_from_json(
        {
            "schema": "memguard.report/1", "job_id": "1", "name": "n", "kind": "command", "what": "w", "started_at": "",
            "duration_s": 0, "outcome": outcome.value, "exit_status": None, "signal": None, "evidence": [],
            "budget": {"limit_bytes": 1, "source": "", "fence": ""},
            "capacity": {"capacity_bytes": 1, "available_bytes": 1, "limited_by": "", "path": ""},
            "estimate": None, "peak_bytes": 1, "kernel_peak_bytes": None, "baseline_bytes": 0,
            "caller": {"before_bytes": 0, "after_bytes": 0, "after_5s_bytes": None},
            "cleanup": {"duration_s": 0, "verified": True, "leftovers": []},
        }
    )  # fmt: skip


def test_control_characters_are_spelt_out() -> None:
    """Text of any language stays; what moves the cursor, ends the line or is no character is spelt out."""
    assert printable("日本 é ok") == "日本 é ok"
    assert printable("a\x1b[2J\n\t\r\x7f\udcff") == "a\\x1b[2J\\n\\t\\r\\x7f\\udcff"


@pytest.fixture
def streams() -> Iterator[list[TextIO]]:
    """Give a list of streams that are closed at the end, whatever their descriptors meet."""
    made: list[TextIO] = []
    yield made
    for stream in made:
        stream.close()


def test_words_that_cannot_be_written_are_lost(
    monkeypatch: pytest.MonkeyPatch, streams: list[TextIO]
) -> None:
    """A full disk, a pipe without a reader and no stderr at all raise nothing, then and when the stream is flushed."""
    reader, writer = os.pipe()
    os.close(reader)
    streams += [open("/dev/full", "w"), open(writer, "w")]  # noqa: SIM115 - the fixture closes them
    for stream in streams:
        monkeypatch.setattr(sys, "stderr", stream)
        say("words")
        stream.flush()
    monkeypatch.setattr(sys, "stderr", None)
    say("words")
    say_nowait("words")


def test_words_do_not_wait_for_a_reader(monkeypatch: pytest.MonkeyPatch, streams: list[TextIO]) -> None:
    """`say_nowait` writes to a pipe with room, and returns at once where it is full."""
    reader, writer = os.pipe()
    streams += [open(writer, "w"), open(reader)]  # noqa: SIM115 - the fixture closes them
    monkeypatch.setattr(sys, "stderr", streams[0])
    say_nowait("heard")
    assert streams[1].readline() == "memguard: heard\n"
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, b"x" * 4096):
            pass
    os.set_blocking(writer, True)
    say_nowait("lost")
    give_up_on(streams[0])


def test_giving_up_leaves_no_descriptor(streams: list[TextIO]) -> None:
    """A stream given up on keeps its own descriptor and takes no other."""
    streams.append(open("/dev/full", "w"))  # noqa: SIM115 - the fixture closes it
    before = len(os.listdir("/proc/self/fd"))
    streams[0].write("words")
    give_up_on(streams[0])
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(io.UnsupportedOperation):
        give_up_on(io.StringIO())


def test_every_command_can_be_loaded() -> None:
    """The table of commands names modules and attributes that exist."""
    for name, (module, attribute) in COMMANDS.items():
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        assert command.name == name
