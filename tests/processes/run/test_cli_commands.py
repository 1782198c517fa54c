"""The command line as a person meets it: help, versions, mistakes, reports, and output that goes nowhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from memguard.cli.main import COMMANDS

MEMGUARD = os.path.join(os.path.dirname(sys.executable), "memguard")
BARE = (sys.executable, "-I", "-S", "-c")


def call(kit: Any, *words: str, **options: Any) -> Any:
    return kit.finish(kit.start(MEMGUARD, *words, **options))


def only_line(done: Any) -> str:
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("memguard: ")
    return str(line)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the report of a command that a signal ended."""
    file = tmp_path_factory.mktemp("reports") / "good.json"
    words = [
        MEMGUARD,
        "run",
        "-q",
        "--report",
        str(file),
        "--name",
        "quick",
        "--",
        "/bin/sh",
        "-c",
        "kill -TERM $$",
    ]
    assert subprocess.run(words, check=False, timeout=60).returncode == 143
    return file


def test_no_word_at_all_shows_the_help(kit: Any) -> None:
    """`memguard` alone is wrong usage and shows on stderr which commands there are."""
    done = call(kit)
    assert (done.returncode, done.stdout) == (2, b"")
    assert [
        name for name in COMMANDS if not re.search(rf"^  {name} ", done.stderr.decode(), re.MULTILINE)
    ] == []


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_every_command_and_status(kit: Any, flag: str) -> None:
    """The help goes to stdout, lists each command with a line of its own, and tells every exit status."""
    done = call(kit, flag)
    told = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, b"")
    assert [name for name in COMMANDS if not re.search(rf"^  {name} +\S", told, re.MULTILINE)] == []
    assert [
        status for status in (0, 1, 2, 3, 125, 126, 127, 130, 137) if not re.search(rf"\b{status}\b", told)
    ] == []


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_of_each_command_explains_each_option(kit: Any, command: str) -> None:
    """Every option of every command has a sentence of its own."""
    done = call(kit, command, "--help")
    told = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, b"")
    assert told.startswith(f"Usage: memguard {command} ")
    options = re.findall(r"^  (-.*(?:\n {4,}\S.*)*)", told, re.MULTILINE)
    assert options
    assert [
        each for each in options if not re.search(r"\s{2,}\S.*\w\.", " ".join(each.splitlines()) + ".")
    ] == []


def test_the_help_of_run_is_true(kit: Any) -> None:
    """What its help says of sizes, the time and the statuses can be typed as it stands."""
    told = call(kit, "run", "--help").stdout.decode()
    sizes = re.findall(r"\b\d+(?:GiB|M)\b|\b\d+%", told.partition("--memory")[2].partition("--name")[0])
    times = re.findall(r"\b\d+[smh]\b", told.partition("--timeout")[2].partition("Default")[0])
    assert (len(sizes), len(times)) == (3, 3)
    for size, time in zip(sizes, times, strict=True):
        assert kit.run("--memory", size, "--timeout", time, "--", "true").returncode == 0
    assert "137" in told


def test_the_version_is_that_of_the_package(kit: Any) -> None:
    """`memguard --version` tells the version that is installed."""
    assert call(kit, "--version").stdout.decode() == f"memguard, version {version('automl-memguard')}\n"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["walk"], ["'walk'", "`memguard --help`"]),
        (["--memory", "1GiB", "run"], ["'--memory'", "`memguard --help`"]),
        (["completion", "tcsh"], ["'tcsh'", "'bash'", "`memguard completion --help`"]),
        (["completion"], ["bash, zsh, fish", "`memguard completion --help`"]),
        (["report"], ["'FILE'", "`memguard report --help`"]),
    ],
)
def test_wrong_words_are_2_and_one_line(kit: Any, words: list[str], parts: list[str]) -> None:
    """An unknown command, option or value ends with 2 and one line that names it and where help is."""
    done = call(kit, *words)
    line = only_line(done)
    assert (done.returncode, done.stdout) == (2, b"")
    assert [part for part in parts if part not in line] == []


def test_a_report_is_shown(kit: Any, good: Path) -> None:
    """`memguard report FILE` tells the name, the outcome, the figures and the death; --json gives the document back."""
    told = call(kit, "report", str(good)).stdout.decode()
    assert told.startswith("quick: signal after ")
    assert [
        part
        for part in ("budget", "peak", "cleanup", "killed by SIGTERM", "why this one")
        if part not in told
    ] == []
    assert json.loads(call(kit, "report", "--json", str(good)).stdout) == json.loads(good.read_text())


def change(document: dict[str, Any], path: str, value: Any) -> str:
    *folders, name = path.split(".")
    place = document
    for folder in folders:
        place = place[folder]
    place[name] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("missing", "there is no such file; "),
        ("folder", "cannot be read (Is a directory); "),
        ("binary", "is not JSON"),
        ("truncated", "is not JSON"),
        ("deep", "is not JSON"),
        ("list", "is not a job report"),
        ("foreign", "is not a job report (schema None)"),
        ("newer", "is not a job report (schema 'memguard.report/2')"),
        ("peak_bytes=lots", "is a damaged job report (peak_bytes: 'lots' where int belongs)"),
        ("duration_s=None", "is a damaged job report (duration_s: None where float belongs)"),
        ("outcome=exploded", "is a damaged job report (outcome: 'exploded' is not a valid Outcome)"),
        ("evidence=text", "is a damaged job report (evidence: 'text' where list belongs)"),
        ("budget.limit_bytes=True", "is a damaged job report (budget: limit_bytes: True where int belongs)"),
        ("budget=None", "is a damaged job report (budget: None where dict belongs)"),
        ("without budget", "is a damaged job report ("),
    ],
)
def test_what_is_no_report_is_refused_in_one_line(kit: Any, good: Path, kind: str, told: str) -> None:
    """A missing, foreign, cut or changed file is named with what is wrong in it, status 2, and no traceback."""
    text, file = good.read_text(), kit.folder / "given.json"
    contents = {
        "binary": os.urandom(3000), "truncated": text[: len(text) // 2].encode(), "deep": b"[" * 100_000,
        "list": b"[1, 2]", "foreign": b'{"a": 1}', "newer": text.replace("report/1", "report/2").encode(),
        "without budget": json.dumps({k: v for k, v in json.loads(text).items() if k != "budget"}).encode(),
    }  # fmt: skip
    if kind == "folder":
        file.mkdir()
    elif "=" in kind:
        path, _, value = kind.partition("=")
        file.write_text(change(json.loads(text), path, {"None": None, "True": True}.get(value, value)))
    elif kind != "missing":
        file.write_bytes(contents[kind])
    done = call(kit, "report", "given.json")
    line = only_line(done)
    assert (done.returncode, done.stdout) == (2, b"")
    assert line.startswith(f"memguard: given.json: {told}")
    assert "; " in line


def test_a_newer_minor_report_is_read(kit: Any, good: Path) -> None:
    """Keys that a later version added are no hindrance."""
    (kit.folder / "later.json").write_text(change(json.loads(good.read_text()), "colour", "green"))
    assert call(kit, "report", "later.json").returncode == 0


def test_a_report_does_not_play_with_the_terminal(kit: Any, good: Path) -> None:
    """Escape sequences in a foreign report, or in a command's words, are spelt out."""
    (kit.folder / "odd.json").write_text(change(json.loads(good.read_text()), "name", "\x1b[2Jgone\r"))
    assert b"\\x1b[2Jgone\\r: signal" in call(kit, "report", "odd.json").stdout
    done = kit.run("--", "no\x1b[2J\nsuch")
    assert "no\\x1b[2J\\nsuch: command not found" in only_line(done)
    _, report = kit.report("--", "/bin/sh", "-c", "true;\ntrue")
    assert report["what"] == "/bin/sh -c true;\\ntrue"


@pytest.mark.parametrize(
    "words",
    [
        ("report", "--json"),
        ("report",),
        ("config",),
        ("completion", "bash"),
        ("doctor",),
        ("status",),
        ("status", "--json"),
        ("--help",),
        ("run", "--help"),
        ("--version",),
        ("run", "--json", "--", "true"),
    ],
)
def test_a_reader_that_leaves_is_met_with_silence(kit: Any, good: Path, words: tuple[str, ...]) -> None:
    """A pipe that nobody reads brings no word, and the status that a pipe which somebody reads brings: 0."""
    reader, writer = os.pipe()
    os.close(reader)
    done = call(kit, *words, *([str(good)] if words[0] == "report" else []), stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("words", [("report",), ("config",), ("completion", "bash")])
def test_a_full_disk_is_told_in_one_line(kit: Any, good: Path, words: tuple[str, ...]) -> None:
    """Output that cannot be written ends with 1 and one line."""
    command = [MEMGUARD, *words, *([str(good)] if words[0] == "report" else [])]
    done = kit.finish(kit.start("/bin/sh", "-c", '"$@" >/dev/full', "sh", *command))
    assert done.returncode == 1
    assert "No space left on device" in only_line(done)


def test_no_colour_where_none_is_wanted(kit: Any, terminal: Any, good: Path) -> None:
    """With NO_COLOR no command writes an escape sequence, on a terminal either."""
    script = f"{MEMGUARD} report {good}; {MEMGUARD} --help; {MEMGUARD} config; {MEMGUARD} nope; echo over"
    process = terminal.start("/bin/sh", "-c", script, environment={"NO_COLOR": "1", "TERM": "xterm-256color"})
    told = terminal.read_to_end(process)
    assert "over" in told
    assert "\x1b" not in told


def test_a_wrapped_command_loads_nothing_heavy(kit: Any) -> None:
    """`memguard run` imports no data library, no console toolkit, no logger: 3 times the modules of click at most."""
    words = (sys.executable, "-X", "importtime", "-c")
    run = "import sys; from memguard.cli.main import main; main(['run', '--', 'true'])"
    loaded, of_click = (
        set(re.findall(r"\|\s+([\w.]+)\n", kit.finish(kit.start(*words, code)).stderr.decode()))
        for code in (run, "import click")
    )
    heavy = {
        "asyncio", "autofeat", "cloudpickle", "concurrent", "http", "jsonschema", "logging", "multiprocessing", "numpy",
        "objgraph", "pandas", "psutil", "rich", "sklearn", "sqlite3", "ssl", "structlog", "unittest", "xml",
    }  # fmt: skip
    assert "memguard.worker.command" in loaded
    assert heavy & {name.partition(".")[0] for name in loaded} == set()
    assert len(loaded) < 3 * len(of_click)
