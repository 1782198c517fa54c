"""``memguard status``: what it prints, against its schema, on this machine and on recorded ones."""

from __future__ import annotations

import json
import math
import os
import pty
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from memguard.cli.overview import Overview
from memguard.cli.status import document
from memguard.cli.tables import plain_table
from memguard.config import load_settings
from memguard.guard import Pressure, PressureNow
from memguard.host import MachineReading, read_machine
from memguard.ledger.board import Entry
from memguard.ledger.room import room_in
from memguard.ledger.snapshot import Snapshot
from memguard.ledger.standing import stand
from memguard.units import GIB, MIB

if TYPE_CHECKING:
    from conftest import RecordedMachine


def schema(name: str) -> dict[str, Any]:
    loaded = json.loads(resources.files("memguard").joinpath("schemas", f"{name}-1.json").read_text())
    assert isinstance(loaded, dict)
    return loaded


def validate(name: str, found: object) -> None:
    jsonschema.Draft202012Validator(schema(name)).validate(found)


def memguard(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "memguard", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        timeout=60,
    )


def on_terminal(*arguments: str, **environment: str) -> str:
    """Run a command with a terminal as its stdout, and return all that it wrote there."""
    reader, writer = pty.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "memguard", *arguments],
            stdout=writer,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **environment},
        ) as process:
            os.close(writer)
            written = b""
            # A terminal whose other side is closed ends with an error instead of with nothing.
            try:
                while chunk := os.read(reader, 65536):
                    written += chunk
            except OSError:
                assert process.wait(timeout=60) == 0
    finally:
        os.close(reader)
    return written.decode()


def seen(machine: MachineReading) -> Overview:
    """Return what a look at a machine without a ledger finds."""
    room = room_in(machine, load_settings(environ={}))
    pressure = PressureNow(Pressure.NORMAL, 0.0, machine.used_fraction, 0.0, math.inf, 1.0)
    standings = stand((), lambda _: Entry(), room, 0.0)
    return Overview(0.0, 0.0, machine, room, Snapshot(), standings, pressure, None, {})


@pytest.mark.parametrize("name", ["status", "doctor", "top"])
def test_the_schema_is_a_schema(name: str) -> None:
    """It keeps to the rules of draft 2020-12, and refuses a document without content or with an extra field."""
    jsonschema.Draft202012Validator.check_schema(schema(name))
    with pytest.raises(jsonschema.ValidationError):
        validate(name, {"schema": f"memguard.{name}/1"})
    assert schema(name)["additionalProperties"] is False
    assert all(part["additionalProperties"] is False for part in schema(name)["$defs"].values())


def test_this_machine_is_told_as_the_schema_says() -> None:
    """The document is all of stdout, and is what a reading of this moment says."""
    done = memguard("status", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    validate("status", found)
    assert found["capacity_bytes"] == read_machine().capacity_bytes


def test_recorded_machines_are_told_as_the_schema_says(recorded: RecordedMachine) -> None:
    """Nested limits, pressure and notes are all in the document, and one limit binds."""
    recorded.cgroups("0::/a/b\n")
    recorded.mount("/sys/fs/cgroup", "cgroup2", "rw")
    recorded.group_v2("/sys/fs/cgroup/a", limit=8 * GIB, usage=3 * GIB)
    recorded.group_v2("/sys/fs/cgroup/a/b", limit=2 * GIB, usage=3 * GIB)
    recorded.make_unreadable("/sys/fs/cgroup/a/memory.stat")
    recorded.write("/proc/pressure/memory", "some avg10=1.50 total=9\nfull avg10=0.25 total=3\n")
    found = document(seen(read_machine(root=recorded.root)))
    validate("status", found)
    assert [limit["binds"] for limit in found["limits"]] == [False, False, True]
    assert found["used_fraction"] == 1.5
    assert found["available_bytes"] == 0
    assert found["pressure"] == {"some_avg10": 1.5, "full_avg10": 0.25}
    assert len(found["notes"]) == 1


def test_the_share_of_guarded_jobs_binds() -> None:
    """MEMGUARD_CAPACITY shows as the binding limit, with words on stderr about what counts in it."""
    done = memguard("status", "--json", MEMGUARD_CAPACITY="512MiB")
    found = json.loads(done.stdout)
    validate("status", found)
    assert found["capacity_bytes"] == 512 * MIB
    assert found["limits"][-1]["source"] == "MEMGUARD_CAPACITY"
    assert found["limits"][-1]["binds"] is True
    assert "only guarded jobs count" in done.stderr


def test_a_share_in_percent_is_of_this_machine() -> None:
    """50% is half of what binds otherwise."""
    found = json.loads(memguard("status", "--json", MEMGUARD_CAPACITY="50%").stdout)
    assert found["capacity_bytes"] == read_machine().capacity_bytes // 2


def test_a_share_that_is_no_size_is_wrong_usage() -> None:
    """One line on stderr names the setting, nothing is on stdout, and the status is 2."""
    done = memguard("status", MEMGUARD_CAPACITY="4 bananas")
    assert (done.returncode, done.stdout) == (2, "")
    assert "4 bananas" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_people_read_the_same() -> None:
    """Without --json the same figures come as aligned text, without escape codes."""
    done = memguard("status")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("capacity")
    assert "bound by" in lines[0]
    assert [line.split()[0] for line in lines[1:3]] == ["used", "available"]
    assert sum(line.endswith("binds") for line in lines) == 1
    assert "\x1b" not in done.stdout
    assert all(line == line.rstrip() for line in lines)


def test_a_terminal_gets_a_table_without_colour_where_that_is_asked() -> None:
    """On a terminal the table is drawn to its width; with NO_COLOR no code for a colour is written."""
    written = on_terminal("status", NO_COLOR="1")
    assert "binds" in written
    assert re.findall(r"\x1b\[(?:\d+;)*(?:3|4|9|10)\d(?:;\d+)*m", written) == []
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in written.splitlines()[-6:]) <= 100


def test_a_pipe_that_is_closed_is_no_traceback(tmp_path: Path) -> None:
    """A reader who leaves early gets no complaint from Python."""
    program = f"{sys.executable} -m memguard status --json | head -c 1"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout == "{"
    assert "Traceback" not in done.stderr


def test_columns_are_aligned() -> None:
    """Numbers to the right, words to the left, no blanks at the end."""
    text = plain_table(("n", "word"), [("1", "a"), ("100", "bcd")], frozenset({0}))
    assert text == "  n  word\n  1  a\n100  bcd"
