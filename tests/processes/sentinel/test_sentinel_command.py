"""``memguard sentinel``: asked whether one watches, and run as a service."""

from __future__ import annotations

import configparser
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING, Any

import apsw
import jsonschema
import pytest

from memguard.guard.spawn import start_sentinel
from memguard.units import parse_size
from tests.support.guarded import eventually
from tests.support.holder import Shares

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.processes.sentinel.conftest import Machine


SHARES = Shares(None, parse_size("5%"))


def words(*flags: str) -> list[str]:
    return [sys.executable, "-m", "memguard", "sentinel", *flags]


def environment(machine: Machine) -> dict[str, str]:
    return {**os.environ, "MEMGUARD_RUNTIME_DIR": str(machine.folder)}


def told(machine: Machine) -> dict[str, Any]:
    """What the command prints, held against its schema."""
    done = subprocess.run(
        words("--json"), env=environment(machine), capture_output=True, text=True, check=True
    )
    document = json.loads(done.stdout)
    schema = resources.files("memguard").joinpath("schemas", "sentinel-1.json").read_text()
    jsonschema.validate(document, json.loads(schema), jsonschema.Draft202012Validator)
    assert isinstance(document, dict)
    return document


@contextmanager
def foreground(machine: Machine, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """One that runs in a terminal."""
    process = subprocess.Popen(
        words("--foreground", *flags), env=environment(machine), stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def first_word(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline()


@pytest.mark.requirement("R6.3")
def test_it_tells_whether_one_watches(real: Machine) -> None:
    """Without one that is what it says, and it makes none; with one who it is and what it saw."""
    assert told(real)["watches"] is False
    job = real.job("a", 10)
    who = real.watched()
    assert eventually(lambda: told(real).get("running") == 1)
    document = told(real)
    assert (document["watches"], document["pid"]) == (True, who.pid)
    text = subprocess.run(words(), env=environment(real), capture_output=True, text=True, check=True).stdout
    assert f"process {who.pid} watches the machine: pressure " in text
    job.end()


def test_it_tells_that_jobs_are_not_watched(real: Machine) -> None:
    """Where jobs run and nobody looks that is not told as if all were well, and the page is named."""

    def said() -> str:
        return subprocess.run(
            words(), env=environment(real), capture_output=True, text=True, check=True
        ).stdout

    assert "no job holds memory of the ledger" in said()
    real.job("a", 10, sentinel=False)
    assert "1 job has a sentinel to start (memguard runbook SentinelGone)" in said()
    start_sentinel(SHARES, real.folder, real.domain)
    who = real.watched()
    os.kill(who.pid, signal.SIGSTOP)
    assert eventually(lambda: f"process {who.pid} is to watch the machine, and last looked" in said())


def test_one_that_cannot_begin_leaves_a_line(real: Machine) -> None:
    """Nobody hears what it says, and its log is where people look."""
    real.book.close()
    connection = apsw.Connection(str(real.folder / "ledger.sqlite"))
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    start_sentinel(SHARES, real.folder, real.domain)
    assert eventually(real.log)
    assert "could not begin" in real.log()[0]["fault"]
    assert "newer memguard" in real.log()[0]["fault"]


@pytest.mark.requirement("T5.3")
def test_as_a_service_it_stays_without_jobs_and_ends_at_sigterm(real: Machine) -> None:
    """It logs to stderr, a second one waits for it, and takes over when it ends; both end with status 0."""
    with foreground(real) as first:
        assert json.loads(first_word(first))["event"] == "memguard.sentinel_started"
        assert eventually(lambda: told(real).get("pid") == first.pid)
        with foreground(real, "--machine") as second:
            assert f"process {first.pid} watches already" in first_word(second)
            first.send_signal(signal.SIGTERM)
            assert first.wait() == 0
            assert json.loads(first_word(second))["event"] == "memguard.sentinel_started"
            second.send_signal(signal.SIGINT)
            assert second.wait() == 0
    assert not (real.folder / "sentinel.lock").exists()


def test_who_waits_for_the_lock_can_be_stopped(real: Machine) -> None:
    """SIGTERM ends it also while another one watches, which goes on."""
    with foreground(real) as first, foreground(real) as second:
        assert first_word(first)
        waiting = second if "watches already" in first_word(second) else first
        waiting.send_signal(signal.SIGTERM)
        assert waiting.wait() == 0


def test_the_unit_starts_what_there_is(project_root: Path) -> None:
    """The service's command is one that the command line has, with flags that it knows."""
    from memguard.cli.sentinel import sentinel_command

    unit = configparser.ConfigParser()
    unit.read(project_root / "packaging" / "memguard-sentinel.service")
    program, name, command, *flags = unit["Service"]["ExecStart"].split()
    assert (program, name, command) == ("/usr/bin/env", "memguard", "sentinel")
    known = {option for parameter in sentinel_command.params for option in parameter.opts}
    assert set(flags) <= known
