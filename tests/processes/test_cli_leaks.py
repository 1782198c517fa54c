"""`memguard leaks` as a person meets it: a function, a command, a process; what they do wrong; what is printed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest

import memguard

SCHEMA = json.loads((Path(memguard.__file__).parent / "schemas" / "leaks-1.json").read_text())
APP = """
import os

CACHE, BLOCKS = {}, []
def leak(i):
    print("words of the function")
    CACHE[f"user {i}"] = bytes(5000)
def dies(i):
    if i == 5:
        os._exit(7)
def grows(): BLOCKS.append(bytearray(b"x") * (40 << 20))
def steady():
    with open("/proc/self/environ") as own:
        given = own.read()  # the C library splits the list where it stands
    assert "glibc.malloc.check=1" in given and "glibc.malloc.tcache_count=0" in given
def huge(): return bytearray(b"x") * (900 << 20)
"""
LOOP = "import sys, time\nkept = []\nwhile True:\n    kept.append(bytearray(300_000)); time.sleep(0.02)"


@pytest.fixture
def leaks(tmp_path: Path) -> Any:
    """Call `memguard leaks` in a folder that has a module of functions."""
    (tmp_path / "app.py").write_text(APP)

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "memguard", "leaks", *words]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )

    return call


def document_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    return document


def test_a_function_that_leaks(leaks: Any, tmp_path: Path) -> None:
    """Exit status 1, one document on stdout, the holder by name, the line that allocates, a picture; no key."""
    done = leaks("app:leak", "--iterations", "40", "--json", "--svg", "who.svg")
    found = document_of(done)
    assert (done.returncode, found["verdict"]) == (1, "leaking")
    assert found["culprits"][0]["holder"] == "app.CACHE: dict, +1 entries/iteration"
    assert found["allocated"][0]["file"].endswith("app.py")
    assert found["allocated"][0]["line"] == 7
    assert 5000 <= found["allocated"][0]["bytes_per_iteration"] <= 5600
    assert "words of the function" in done.stderr
    assert "user" not in done.stdout
    texts = [each.text for each in ET.parse(tmp_path / "who.svg").iter() if each.text]
    assert "app.CACHE: dict, +1 entries/iteration" in texts
    again = leaks("app:leak", "--svg", "who.svg")
    assert (again.returncode, again.stdout) == (2, "")
    assert "--force" in again.stderr


def test_growth_up_to_the_budget(leaks: Any) -> None:
    """Who reaches the budget before ten iterations leaks, at the rate at which he came there."""
    done = leaks("app:grows", "--memory", "250MiB", "-q")
    assert done.returncode == 1
    first, *rest = done.stdout.splitlines()
    assert first.startswith("app:grows: leaking, 40 MiB per iteration")
    assert re.search("it reached its budget of 250 MiB on iteration [567]", "\n".join(rest))


def test_malloc_of_the_child_counts_what_is_in_use(leaks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child is started without caches of freed pieces for each thread; what else is tuned stays."""
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=1")
    found = document_of(leaks("app:steady", "--iterations", "20", "-q", "--json"))
    assert (found["verdict"], found["iterations"], found["stopped"]) == ("stable", 20, "")


def test_one_call_that_is_too_large_is_no_leak(leaks: Any) -> None:
    """Who reaches the budget in the first call is told to give more, with status 3."""
    done = leaks("app:huge", "--memory", "200MiB", "-q", "--json")
    found = document_of(done)
    assert (done.returncode, found["verdict"]) == (3, "inconclusive")
    assert found["stopped"] == "it reached its budget of 200 MiB on iteration 1"
    assert "--memory" in found["advice"]


def test_who_ends_the_process_is_told_so(leaks: Any) -> None:
    """`os._exit` in the sixth call is told as such, and decides nothing."""
    done = leaks("app:dies", "-q", "--json")
    found = document_of(done)
    assert (done.returncode, found["iterations"]) == (3, 5)
    assert "on iteration 6: the job ended its process with exit status 7" in found["stopped"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ((), "name one thing to look at"),
        (("app:leak", "--pid", "1"), "name one thing to look at"),
        (("--",), "behind -- there is no command"),
        (("--pid", "4000000"), "there is no such process"),
    ],
)
def test_mistakes_are_refused(leaks: Any, words: tuple[str, ...], part: str) -> None:
    """Nothing to look at, two things, or one that is not there: one line, status 2."""
    done = leaks(*words)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert part in line


def test_a_function_that_is_not_there(leaks: Any) -> None:
    """What the child cannot call is refused like any other mistake."""
    done = leaks("app:laek")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no laek in it; did you mean leak?" in done.stderr


def test_a_command_is_watched_from_outside(leaks: Any) -> None:
    """A loop that keeps more and more is found by its samples, ended with the watch, and nobody is named."""
    done = leaks("--every", "50ms", "--for", "6", "--json", "-q", "--", sys.executable, "-c", LOOP)
    found = document_of(done)
    assert (done.returncode, found["verdict"]) == (1, "leaking")
    assert (found["kind"], found["culprits"], found["unit"]) == (None, [], "sample of 50 ms")
    assert "MODULE:FUNCTION" in found["advice"]


def test_a_command_that_is_not_there(leaks: Any) -> None:
    """A command that cannot be started has the status that `memguard run` gives it, and no report."""
    done = leaks("-q", "--", "no-such-command")
    assert (done.returncode, done.stdout) == (127, "")
    assert "command not found" in done.stderr


def test_a_process_is_watched_and_left_alone(leaks: Any) -> None:
    """A process that runs already is sampled, reported, and goes on."""
    with subprocess.Popen([sys.executable, "-c", LOOP]) as process:
        done = leaks("--pid", str(process.pid), "--every", "50ms", "--for", "3", "--json", "-q")
        assert process.poll() is None
        process.kill()
    found = document_of(done)
    assert (done.returncode, found["verdict"], found["target"]) == (1, "leaking", f"process {process.pid}")
    assert found["bytes_per_iteration"] > 300_000
