"""On a terminal a wrapped command is what it is without memguard: in the foreground, interruptible, stoppable."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

BARE = (sys.executable, "-I", "-S", "-c")
MEMGUARD = os.path.join(os.path.dirname(sys.executable), "memguard")
LOOK = """
import os
print([os.isatty(each) for each in (0, 1, 2)], tuple(os.get_terminal_size()), os.tcgetpgrp(0) == os.getpgrp())
"""
# As in the tests of signals: tells each signal once for each time it came, and ends with 7 at SIGURG.
COUNTER = """
import os, signal, sys
reader, writer = os.pipe()
os.set_blocking(writer, False)
signal.set_wakeup_fd(writer)
for name in sys.argv[1].split(","):
    signal.signal(getattr(signal, name), lambda number, frame: None)
signal.signal(signal.SIGURG, lambda number, frame: None)
os.write(1, b"ready\\n")
while True:
    number = os.read(reader, 1)[0]
    if number == signal.SIGURG:
        os._exit(7)
    os.write(1, ("got " + signal.Signals(number).name + "\\n").encode())
"""


# Tells each time it is woken, answers the first line it reads, and ends with 9.
STOPPABLE = """
import os, select, signal
reader, writer = os.pipe()
os.set_blocking(writer, False)
signal.set_wakeup_fd(writer)
signal.signal(signal.SIGCONT, lambda number, frame: None)
os.write(1, b"ready\\n")
while True:
    readable = select.select([0, reader], [], [])[0]
    if reader in readable:
        os.read(reader, 1)
        os.write(1, b"back\\n")
    if 0 in readable:
        os.write(1, b"got " + os.read(0, 100))
        os._exit(9)
"""


def test_a_command_sees_the_terminal(terminal: Any) -> None:
    """Its three streams are the terminal, of the size that it has, and it is in the foreground."""
    terminal.resize(33, 121)
    process = terminal.start(MEMGUARD, "run", "--", *BARE, LOOK)
    assert "[True, True, True] (121, 33) True" in terminal.read_to_end(process)
    assert process.returncode == 0


def test_a_command_reads_what_is_typed(terminal: Any) -> None:
    """A program that asks gets the answer typed at the terminal, and control-D ends its input."""
    script = 'printf "name? "; read name; echo "hello $name"; cat; echo "over"; exit 3'
    process = terminal.start(MEMGUARD, "run", "--", "/bin/sh", "-c", script)
    terminal.wait_for("name? ")
    terminal.type("you\n")
    terminal.wait_for("hello you")
    terminal.type("\x04")
    assert "over" in terminal.read_to_end(process)
    assert process.returncode == 3


@pytest.mark.parametrize("depth", [1, 2])
def test_keys_send_each_signal_once(kit: Any, terminal: Any, depth: int) -> None:
    r"""Control-C, control-\\, a changed window size, then signals to memguard alone: each arrives once, nested or not."""
    words = (MEMGUARD, "run", "--") * depth
    process = terminal.start(*words, *BARE, COUNTER, "SIGINT,SIGQUIT,SIGWINCH,SIGTERM")
    terminal.wait_for("ready")
    heard = ""
    for act, name in (
        (lambda: terminal.type("\x03"), "SIGINT"),
        (lambda: terminal.type("\x1c"), "SIGQUIT"),
        (lambda: terminal.resize(50, 90), "SIGWINCH"),
        (lambda: terminal.type("\x03"), "SIGINT"),
        # What the whole group got before must not be mistaken for these.
        (lambda: process.send_signal(signal.SIGINT), "SIGINT"),
        (lambda: process.send_signal(signal.SIGQUIT), "SIGQUIT"),
        (lambda: process.send_signal(signal.SIGWINCH), "SIGWINCH"),
        (lambda: os.killpg(process.pid, signal.SIGTERM), "SIGTERM"),
        (lambda: terminal.type("\x03"), "SIGINT"),
    ):
        act()
        heard += terminal.wait_for(f"got {name}")
        number = getattr(signal, name)
        kit.wait_until(
            lambda each=number: not kit.is_pending(process.pid, each), f"memguard has taken {name}"
        )
    assert heard.count("got ") == 9
    process.send_signal(signal.SIGURG)
    assert "got " not in terminal.read_to_end(process)
    assert process.returncode == 7


@pytest.mark.parametrize(("key", "number"), [("\x03", signal.SIGINT), ("\x1c", signal.SIGQUIT)])
def test_a_key_ends_a_command_and_memguard(terminal: Any, key: str, number: int) -> None:
    r"""Control-C and control-\\ end an ordinary command; memguard ends with 128 + n and says nothing."""
    process = terminal.start(MEMGUARD, "run", "--", "/bin/sh", "-c", "ulimit -c 0; echo ready; exec sleep 50")
    terminal.wait_for("ready")
    terminal.type(key)
    assert "memguard" not in terminal.read_to_end(process)
    assert process.returncode == 128 + number


def test_control_z_without_a_shell_stops_nobody(kit: Any, terminal: Any) -> None:
    """Where no shell could wake them (an orphaned group) control-Z is ignored, by memguard too."""
    process = terminal.start(MEMGUARD, "run", "--", "/bin/sh", "-c", "echo ready; read line; exit 5")
    terminal.wait_for("ready")
    terminal.type("\x1a")
    kit.wait_until(lambda: not kit.is_pending(process.pid, signal.SIGTSTP), "memguard has taken it")
    terminal.type("\n")
    terminal.read_to_end(process)
    assert process.returncode == 5


class Shell:
    """An interactive bash on a terminal; ``run`` types a line, and the prompt tells when it is over."""

    def __init__(self, terminal: Any) -> None:
        self.terminal = terminal
        self.process = terminal.start(
            shutil.which("bash"), "--norc", "--noprofile", "-i", environment={"PS1": "@@ ", "HISTFILE": ""}
        )
        terminal.wait_for("@@ ")
        self.run("stty -echo; set +H")

    def type(self, line: str) -> None:
        self.terminal.type(f"{line}\n")

    def prompt(self) -> str:
        return str(self.terminal.wait_for("@@ "))

    def run(self, line: str) -> str:
        self.type(line)
        return self.prompt()


@pytest.fixture
def shell(terminal: Any) -> Iterator[Shell]:
    """Give an interactive shell with job control."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    return Shell(terminal)


def test_control_z_and_fg_work_in_a_shell(kit: Any, shell: Shell) -> None:
    """Control-Z gives the shell its prompt back, `fg` goes on, five times; then the command reads and ends as it likes."""
    program = kit.folder / "program.py"
    program.write_text(STOPPABLE)
    shell.type(f"{MEMGUARD} run -- {sys.executable} -I -S {program}")
    shell.terminal.wait_for("ready")
    for _ in range(5):
        shell.terminal.type("\x1a")
        assert "Stopped" in shell.prompt()
        assert "Stopped" in shell.run("jobs")
        shell.type("fg")
        shell.terminal.wait_for("back")
    shell.type("words")
    assert "got words" in shell.prompt()
    assert "status 9" in shell.run("echo status $?")


def test_a_command_that_ignores_control_z_keeps_the_terminal(shell: Shell) -> None:
    """A command that ignores SIGTSTP is not left behind by a memguard that stops: neither of them does."""
    shell.type(f'{MEMGUARD} run -- /bin/sh -c \'trap "" TSTP; echo ready; read line; echo "got $line"\'')
    shell.terminal.wait_for("ready")
    shell.terminal.type("\x1a")
    shell.type("words")
    heard = shell.prompt()
    assert "got words" in heard
    assert "Stopped" not in heard


def test_a_command_that_stops_itself_gives_the_prompt_back(shell: Shell) -> None:
    """What editors do for their own suspend key, SIGTSTP to themselves alone, reaches the shell through memguard."""
    program = "import os, signal; os.kill(os.getpid(), signal.SIGTSTP); print('goes on')"
    shell.type(f'{MEMGUARD} run -- {sys.executable} -I -S -c "{program}"')
    assert "Stopped" in shell.prompt()
    assert "goes on" in shell.run("fg")


def test_a_background_command_that_reads_is_stopped(shell: Shell) -> None:
    """In the background a command that reads the terminal stops (SIGTTIN); `fg` brings it and memguard to the front."""
    shell.run(f"{MEMGUARD} run -- /bin/sh -c 'read line; echo \"got $line\"' & sleep 0")
    shell.terminal.type("while ! jobs | grep -q Stopped; do sleep 0.05; done; echo it is\n")
    shell.terminal.wait_for("it is")
    shell.prompt()
    shell.type("fg")
    shell.terminal.wait_for("read line")
    shell.type("words")
    assert "got words" in shell.prompt()


def test_an_interactive_shell_under_guard_has_job_control(shell: Shell) -> None:
    """A bash inside `memguard run` gets the terminal, stops and wakes its own jobs, and gives the terminal back."""
    shell.type(f"PS1='in## ' {MEMGUARD} run -- bash --norc --noprofile -i")
    shell.terminal.wait_for("in## ")
    shell.type("sh -c 'echo read''y; exec cat'")
    shell.terminal.wait_for("ready")
    shell.terminal.type("\x1a")
    assert "Stopped" in shell.terminal.wait_for("in## ")
    shell.type("fg")
    shell.terminal.wait_for("exec cat")
    # The shell says so before it hands the terminal over; who answers has it.
    shell.type("it is there")
    shell.terminal.wait_for("it is there")
    shell.terminal.type("\x03")
    shell.terminal.wait_for("in## ")
    shell.type("exit 6")
    shell.prompt()
    assert "status 6" in shell.run("echo status $?")


def test_control_c_ends_a_loop_of_the_shell(shell: Shell) -> None:
    """Control-C at a wrapped command in a shell's loop ends the loop, since memguard's death looks like the command's."""
    shell.type(
        f"for n in 1 2 3; do {MEMGUARD} run -- /bin/sh -c 'echo in $0; exec sleep 50' $n || break; done; echo out"
    )
    shell.terminal.wait_for("in 1")
    shell.terminal.type("\x03")
    assert "in 2" not in shell.prompt()
