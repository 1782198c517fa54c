"""Wrapped commands for the tests of `memguard run`: real ones, counted, and looked for when a test is over."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from memguard.host import open_fence

PATIENCE_S = 60.0
MIB = 1024**2
MEMGUARD = str(Path(sys.executable).with_name("memguard"))
# Without site-packages: starts in 10 ms.
BARE_PYTHON = (sys.executable, "-I", "-S", "-c")
MARK = "RUN_TEST_MARK"


def wait_until(condition: Callable[[], Any], what: str) -> None:
    """Wait for something of which the kernel tells nobody."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"waited in vain until {what}"
        select.select([], [], [], 0.005)


def status_field(pid: int, name: str) -> str:
    """Return a field of /proc/PID/status, ``""`` when the process is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return line.partition(":")[2].strip()
    return ""


def is_pending(pid: int, number: int) -> bool:
    """Whether a process has not yet taken a signal."""
    return bool(int(status_field(pid, "ShdPnd") or "0", 16) >> (number - 1) & 1)


def is_running(pid: int) -> bool:
    return status_field(pid, "State")[:1] not in ("", "Z", "X")


def children_of(pid: int) -> tuple[int, ...]:
    with contextlib.suppress(OSError):
        return tuple(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    return ()


def fences_of(pids: Sequence[int]) -> list[str]:
    """Return the memory cgroups that were made by one of some processes."""
    owners = {str(pid) for pid in pids}
    return [
        path
        for root in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup")
        for path, _, _ in os.walk(root)
        if "/memguard-" in path
        and path.rpartition("/")[2].split("-")[-3:-2]
        and path.split("-")[-3] in owners
    ]


class Kit:
    """Starts `memguard run` and whatever else carries the mark of this test, and finds what is left of it."""

    wait_until = staticmethod(wait_until)
    status_field = staticmethod(status_field)
    is_pending = staticmethod(is_pending)
    is_running = staticmethod(is_running)
    children_of = staticmethod(children_of)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = os.urandom(8).hex()
        self.environment = {**os.environ, MARK: self.mark}
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str, environment: Mapping[str, str] | None = None, **options: Any) -> Any:
        """Start a program; ``environment`` is added to."""
        pipes: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }
        process = subprocess.Popen(
            words,
            bufsize=0,  # so that `line` can wait for a descriptor
            **{"cwd": self.folder, **pipes, "env": {**self.environment, **(environment or {})}, **options},
        )
        self.started.append(process)
        return process

    def line(self, stream: Any) -> str:
        """Return the next line of a stream."""
        assert select.select([stream], [], [], PATIENCE_S)[0], "waited in vain for a line"
        return str(stream.readline().decode().rstrip("\n"))

    def finish(
        self, process: subprocess.Popen[bytes], given: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Wait for its end, and see to it where that does not come."""
        try:
            out, err = process.communicate(given, timeout=PATIENCE_S)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def guard(self, *words: str, **options: Any) -> Any:
        """Start `memguard run` with options and a command."""
        return self.start(MEMGUARD, "run", *words, **options)

    def run(
        self, *words: str, given: bytes | None = None, **options: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `memguard run` with options and a command to its end."""
        if given is not None:
            options["stdin"] = subprocess.PIPE
        return self.finish(self.guard(*words, **options), given)

    def report(
        self, *words: str, **options: Any
    ) -> tuple[subprocess.CompletedProcess[bytes], dict[str, Any]]:
        """Run `memguard run` to its end; returns its report too."""
        file = self.folder / f"report-{len(self.started)}.json"
        done = self.run("--report", str(file), *words, **options)
        return done, json.loads(file.read_text())

    def marked(self) -> list[int]:
        """Return the processes alive that inherited the mark of this test."""
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError, ValueError):
                if wanted in Path(f"/proc/{int(entry)}/environ").read_bytes().split(b"\0") and is_running(
                    int(entry)
                ):
                    found.append(int(entry))
        return found

    def end(self) -> tuple[list[str], list[str]]:
        """Kill and remove all that is left; returns it: processes by their command lines, fences by their paths."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        left = []
        for pid in self.marked():
            with contextlib.suppress(OSError):
                left.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
                os.kill(pid, signal.SIGKILL)
        fences = fences_of([process.pid for process in self.started])
        for fence in reversed(fences):
            wait_until(lambda each=fence: _is_removed(each), f"{fence} is empty")
        return left, fences


def _is_removed(path: str) -> bool:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    """Give the means to run wrapped commands; fails a test that leaves processes or cgroups."""
    made = Kit(tmp_path)
    try:
        yield made
    finally:
        left, fences = made.end()
    assert not left, f"processes left: {left}"
    assert not fences, f"cgroups left: {fences}"


@pytest.fixture
def needs_fence() -> None:
    """Skip a test where no memory cgroup can be made."""
    fence = open_fence("probe", 64 * MIB)
    if fence is None:
        pytest.skip("no memory cgroup can be made here")
    fence.remove()


@pytest.fixture
def hog() -> tuple[str, ...]:
    """The words of a command that really takes memory."""
    return (sys.executable, "-m", "memguard.testing.hog")


class Terminal:
    """A pseudo-terminal: what a person sees and types."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self.master, self.slave = pty.openpty()
        self.seen = b""
        self.resize(24, 80)

    def start(self, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a program as the leader of a session that this terminal controls."""
        # A session's leader that opens a terminal and has none gets it as its own; dash opens without O_NOCTTY.
        takes = 'exec <"$0" >"$0" 2>&1; exec "$@"'
        name = os.ttyname(self.slave)
        return self._kit.start(
            "/bin/sh", "-c", takes, name, *words, start_new_session=True, stdout=None, stderr=None, **options
        )

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def wait_for(self, text: str) -> str:
        """Wait until a text is seen, and return all up to its end; what is after it is seen next."""
        deadline_s = time.monotonic() + PATIENCE_S
        while text.encode() not in self.seen:
            left_s = deadline_s - time.monotonic()
            assert left_s > 0, f"waited in vain for {text!r}, saw {self.seen!r}"
            if select.select([self.master], [], [], left_s)[0]:
                self.seen += os.read(self.master, 4096)
        before, _, self.seen = self.seen.partition(text.encode())
        return before.decode(errors="replace") + text

    def read_to_end(self, process: subprocess.Popen[bytes]) -> str:
        """Wait for the end of a program, and return what it still wrote."""
        process.wait(PATIENCE_S)
        while select.select([self.master], [], [], 0)[0]:
            self.seen += os.read(self.master, 4096)
        return self.seen.decode(errors="replace")

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(kit: Kit) -> Iterator[Terminal]:
    """Give a terminal of its own to the programs that are started on it."""
    made = Terminal(kit)
    try:
        yield made
    finally:
        made.close()
