"""``memguard top`` on a real terminal and off it, beside real commands that share one machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import termios
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from memguard.cli.overview import Watch
from memguard.cli.top_view import View, frame
from memguard.config import load_settings
from memguard.units import MIB
from tests.processes.run.conftest import MEMGUARD
from tests.processes.run.test_run_ledger import Machine
from tests.support.ledgers import book_in, wish

SCHEMA = json.loads((Path(__file__).parents[3] / "memguard" / "schemas" / "top-1.json").read_text())
ENTERS, LEAVES = "\x1b[?1049h", "\x1b[?1049l"


@pytest.fixture
def machine(kit: Any) -> Machine:
    return Machine(kit)


@pytest.fixture
def book(machine: Machine) -> Any:
    """Three leases that this process holds, of which one waits."""
    with book_in(machine.folder) as book:
        for name, mib in (("train", 500), ("report", 100), ("tune", 600)):
            book.ask(wish(name, mib))
        yield book
        for name in ("train", "report", "tune"):
            book.release(name)


def top(machine: Machine, *words: str, **options: Any) -> Any:
    return machine.kit.start(MEMGUARD, "top", *words, environment=environment(machine), **options)


def environment(machine: Machine, **more: str) -> dict[str, str]:
    # The book of these tests has no share of the machine, so top has none either.
    return {"MEMGUARD_RUNTIME_DIR": machine.environment["MEMGUARD_RUNTIME_DIR"], "TERM": "xterm", **more}


def modes(terminal: Any) -> list[Any]:
    return termios.tcgetattr(terminal.slave)


def live(terminal: Any, machine: Machine, *words: str, **more: str) -> Any:
    """Start it on the terminal, and wait for its first frame."""
    process = terminal.start(MEMGUARD, "top", *words, environment=environment(machine, **more))
    terminal.wait_for(ENTERS)
    terminal.wait_for("h help")
    return process


def frames_until(terminal: Any, text: str) -> str:
    """Return what is drawn up to the end of the frame that has a text."""
    return str(terminal.wait_for(text))


@pytest.mark.parametrize(
    ("ending", "status"),
    [("q", 0), ("\x03", 0), (signal.SIGTERM, 143), (signal.SIGINT, 0), (signal.SIGHUP, 129), ("\x1c", 131)],
)
def test_the_terminal_is_left_as_it_was(
    terminal: Any, machine: Machine, book: Any, ending: str | signal.Signals, status: int
) -> None:
    r"""After q, Ctrl-C, Ctrl-\ and signals the modes, the screen and the cursor are what they were before."""
    before = modes(terminal)
    process = live(terminal, machine)
    machine.kit.wait_until(lambda: modes(terminal) != before, "keys come one by one")
    if isinstance(ending, str):
        terminal.type(ending)
    else:
        process.send_signal(ending)
    told = terminal.read_to_end(process)
    assert process.returncode == status
    assert told.count(LEAVES) == 1
    assert told.rindex("\x1b[?25h") < told.rindex(LEAVES)
    assert ENTERS not in told.partition(LEAVES)[2]
    assert modes(terminal) == before


def test_a_fault_leaves_the_terminal_as_it_was(terminal: Any, machine: Machine) -> None:
    """An exception in the midst of a frame comes after the terminal was set back, and is told on the usual screen."""
    before = modes(terminal)
    program = (
        "import sys; from memguard.cli import main, top\n"
        "def broken(*_):\n    raise ZeroDivisionError('a fault of top')\n"
        "top.frame = broken; main.main(['top'])"
    )
    process = terminal.start(sys.executable, "-c", program, environment=environment(machine))
    told = terminal.read_to_end(process)
    assert process.returncode == 1
    assert "a fault of top" in told.partition(LEAVES)[2]
    assert modes(terminal) == before


def test_keys_do_what_the_help_says(terminal: Any, machine: Machine, book: Any) -> None:
    """Sorting, reversing, filtering and the help act at once, not at the next look an hour later."""
    process = live(terminal, machine, "--interval", "1h", "--sort", "name")
    terminal.type("r")
    told = frames_until(terminal, "sorted by name")
    assert told.index("tune") < told.index("train") < told.index("report")
    terminal.type(">")
    frames_until(terminal, "sorted by state")
    terminal.type("/trai\r")
    frames_until(terminal, "only: trai ")
    terminal.type("\x1b[C")
    told = frames_until(terminal, "sorted by priority")
    assert "train" in told
    assert "report" not in told
    terminal.type("h")
    frames_until(terminal, "the other way round")
    terminal.type("x\x1b")
    told = frames_until(terminal, "filter  h help")
    terminal.type("q")
    terminal.read_to_end(process)
    assert process.returncode == 0


def test_a_window_that_changes_its_size_is_drawn_anew(terminal: Any, machine: Machine, book: Any) -> None:
    """What fits is shown at once, without waiting for the next look."""
    process = live(terminal, machine, "--interval", "1h")
    terminal.resize(24, 44)
    told = frames_until(terminal, "tune  ")
    assert "priority" not in told.rpartition("memguard top")[2]
    terminal.type("q")
    terminal.read_to_end(process)


def test_control_z_gives_the_terminal_to_the_shell(kit: Any, terminal: Any, machine: Machine) -> None:
    """Stopped, it has given the screen and the modes back; continued by fg, it takes and draws them again."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    shell = terminal.start("bash", "--norc", "-i", environment=environment(machine, PS1="PROMPT "))
    terminal.wait_for("PROMPT ")
    terminal.type(f"{MEMGUARD} top --interval 1h\n")
    terminal.wait_for("h help")
    terminal.type("\x1a")
    terminal.wait_for(LEAVES)
    terminal.wait_for("PROMPT ")
    terminal.type("fg\n")
    terminal.wait_for(ENTERS)
    terminal.wait_for("h help")
    terminal.type("q")
    terminal.wait_for("PROMPT ")
    terminal.type("exit\n")
    terminal.read_to_end(shell)


def test_it_sees_what_comes_and_goes(terminal: Any, machine: Machine) -> None:
    """It begins where there is no ledger, and sees one come, break, and come again."""
    process = live(terminal, machine, "--interval", "100ms")
    frames_until(terminal, "none yet: no job")
    with book_in(machine.folder) as book:
        book.ask(wish("first", 100))
        frames_until(terminal, "first")
    (machine.folder / "ledger.sqlite").write_bytes(os.urandom(9000))
    frames_until(terminal, "damaged: ")
    with book_in(machine.folder) as book:
        book.ask(wish("second", 100))
        frames_until(terminal, "second")
        book.release("second")
    shutil.rmtree(machine.folder)
    frames_until(terminal, "none yet: no job")
    terminal.type("q")
    terminal.read_to_end(process)
    assert process.returncode == 0


@pytest.mark.parametrize(("no_colour", "marked"), [("1", False), ("", True)])
def test_no_colour_where_none_is_wanted(
    terminal: Any, machine: Machine, book: Any, no_colour: str, marked: bool
) -> None:
    """With NO_COLOR lines are told apart by their words alone; without it the head of the table is marked."""
    process = terminal.start(MEMGUARD, "top", environment=environment(machine, NO_COLOR=no_colour))
    assert ("\x1b[7m" in terminal.wait_for("h help")) == marked
    terminal.type("q")
    terminal.read_to_end(process)


def test_one_look_off_a_terminal(machine: Machine, book: Any) -> None:
    """Where stdout is no terminal one frame is printed, whole and without escape codes, as with --once."""
    done = machine.kit.finish(top(machine))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"memguard top ")
    assert [name in done.stdout for name in (b"train", b"report", b"tune")] == [True] * 3
    assert b"\x1b" not in done.stdout
    only = machine.kit.finish(top(machine, "--once", "--filter", "tra"))
    assert b"report" not in only.stdout


def test_a_document_a_line(machine: Machine) -> None:
    """--json prints a document a look until it is stopped, each whole and as the schema says; jobs' growth is told."""
    first = machine.start("--memory", "600MiB", "--name", "train", mib=300)
    assert machine.is_ready(first)
    watcher = machine.kit.start(
        MEMGUARD, "top", "--json", "--interval", "100ms", environment=machine.environment
    )
    seen = [json.loads(machine.kit.line(watcher.stdout)) for _ in range(3)]
    watcher.send_signal(signal.SIGINT)
    done = machine.kit.finish(watcher)
    assert (done.returncode, b"interrupted" in done.stderr) == (0, False)
    for each in seen:
        jsonschema.Draft202012Validator(SCHEMA).validate(each)
        assert [job["name"] for job in each["jobs"]] == ["train"]
    assert seen[-1]["jobs"][0]["reserved_bytes"] == 600 * MIB
    machine.kit.finish(first, b"")


def test_counted_looks(machine: Machine) -> None:
    """--count ends it after so many looks, one with --once, and SIGTERM before with its own status."""
    assert (
        len(
            machine.kit.finish(
                top(machine, "--json", "--count", "3", "--interval", "0.1")
            ).stdout.splitlines()
        )
        == 3
    )
    assert len(machine.kit.finish(top(machine, "--json", "--once")).stdout.splitlines()) == 1
    endless = top(machine, "--json", "--interval", "1h")
    machine.kit.line(endless.stdout)
    endless.send_signal(signal.SIGTERM)
    assert machine.kit.finish(endless).returncode == 143


def test_a_reader_that_leaves_ends_it(machine: Machine) -> None:
    """A pipe that nobody reads any more is no failure, and nobody goes on looking for it."""
    process = top(machine, "--json", "--interval", "100ms")
    machine.kit.line(process.stdout)
    process.stdout.close()
    assert process.wait(30) == 0


@pytest.mark.parametrize(
    "words", [("--interval", "1ms"), ("--interval", "soon"), ("--sort", "luck"), ("--count", "0")]
)
def test_wrong_words_are_refused(machine: Machine, words: tuple[str, ...]) -> None:
    """What cannot be is refused with status 2 and one line that names the option."""
    done = machine.kit.finish(top(machine, *words))
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert words[0].encode() in done.stderr


def test_hundreds_of_looks_cost_little_and_keep_nothing(machine: Machine, book: Any) -> None:
    """A look takes a few milliseconds of the processor, less than 1 % at one a second, and opens nothing for good."""
    settings = load_settings(environ={"MEMGUARD_RUNTIME_DIR": str(machine.folder)})
    watch = Watch(settings, with_actions=False)
    frame(watch.look(), View(), 80, 24)
    files, began_s = len(os.listdir("/proc/self/fd")), time.process_time()
    for _ in range(300):
        frame(watch.look(), View(), 80, 24)
    assert (time.process_time() - began_s) / 300 < 0.01
    assert len(os.listdir("/proc/self/fd")) == files
