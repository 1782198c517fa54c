"""Real processes and real fences for the tests of host/, each removed whatever a test does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from memguard.host import Fence, open_fence, probe

ROOT = Path(__file__).resolve().parents[3]
# Runs what it is sent, line by line, and answers with what `answer` was set to.
LOOP = """
import ctypes, json, mmap, os, signal, subprocess, sys, threading, time
MIB = 1024**2
# Ends, at whatever depth, a descendant that a failed test has forgotten.
os.register_at_fork(after_in_child=lambda: signal.alarm(60))
space = globals()
for line in sys.stdin:
    answer = None
    try:
        exec(json.loads(line), space)
        reply = {"answer": space.get("answer")}
    except BaseException as error:
        reply = {"error": repr(error)}
    print(json.dumps(reply), flush=True)
"""


class Helper:
    """A Python process that does what it is told, so that a test decides when what happens."""

    def __init__(self, **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOOP],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            **options,
        )
        self.pid = self.process.pid

    def do(self, code: str) -> Any:
        """Run code there; returns what it left in `answer`, or fails with its error."""
        self.send(code)
        line = self._stdout.readline()
        assert line, f"the helper died of {self.process.wait()}"
        reply = json.loads(line)
        assert "error" not in reply, reply
        return reply["answer"]

    def send(self, code: str) -> None:
        """Run code there without waiting for it to end."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()

    @property
    def _stdout(self) -> Any:
        return self.process.stdout

    def fork(self, body: str) -> int:
        """Fork a child that runs ``body`` (which ends with its own wait); returns when it says it is ready."""
        return int(self.do(FORK.format(body=body.replace("\n", "\n        "))))

    def end(self) -> None:
        """Kill it if it still runs, and reap it."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


# `ready()` lets the parent go on.
FORK = """
_read, _write = os.pipe()
answer = os.fork()
if answer == 0:
    try:
        os.close(_read)
        def ready():
            os.write(_write, b"x")
        {body}
    finally:
        os._exit(0)
os.close(_write)
os.read(_read, 1)
os.close(_read)
"""
# Everything is imported before, for the interpreter's files may be closed to other users; the kernel
# hides the /proc files of a process that changed its user until that says it may be looked into.
BECOME_NOBODY = """
import memguard.host
from memguard.host._libc import prctl
memguard.host.become_subreaper()
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
PR_SET_DUMPABLE = 4
prctl(PR_SET_DUMPABLE, 1)
"""


@pytest.fixture
def helpers() -> Iterator[Callable[..., Helper]]:
    """Make helper processes; all of them are ended after the test."""
    with ExitStack() as stack:

        def start(**options: Any) -> Helper:
            helper = Helper(**options)
            stack.callback(helper.end)
            return helper

        yield start


@pytest.fixture
def helper(helpers: Callable[..., Helper]) -> Helper:
    """One helper process."""
    return helpers()


@pytest.fixture
def make_fence() -> Iterator[Callable[..., Fence]]:
    """Make fences; all of them are emptied and removed after the test."""
    if not probe().fence:
        pytest.skip(f"no writable memory cgroup: {probe().fence.reason}")
    with ExitStack() as stack:

        def make(limit_bytes: int, name: str = "test") -> Fence:
            fence = open_fence(name, limit_bytes)
            assert fence is not None
            stack.enter_context(fence)
            return fence

        yield make


@pytest.fixture
def nobody(helpers: Callable[..., Helper]) -> Helper:
    """A helper without privileges."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    helper = helpers()
    helper.do(BECOME_NOBODY)
    return helper


ENTER = "from memguard.host.fence import Fence; fence = Fence({path!r}, {kind!r}, {limit}); fence.enter()"


@pytest.fixture
def enter() -> Callable[[Helper, Fence], None]:
    """Let a helper move itself into a fence."""

    def move(helper: Helper, fence: Fence) -> None:
        helper.do(ENTER.format(path=fence.path, kind=fence.kind, limit=fence.read().limit_bytes))

    return move
