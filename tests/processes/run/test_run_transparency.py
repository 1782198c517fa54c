"""A wrapped command finds everything as it would without memguard: what it reads, writes, inherits and is."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

BARE = (sys.executable, "-I", "-S", "-c")
# Everything a process inherits, told from inside by one that changes nothing of it.
SELF_PORTRAIT = """
import json, os, resource, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
with open(sys.argv[1], "w") as file:
    json.dump({
        "directory": os.getcwd(),
        "umask": status["Umask"].strip(),
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT")},
        "nice": os.nice(0),
        "affinity": sorted(os.sched_getaffinity(0)),
        "blocked": status["SigBlk"].strip(),
        "group": os.getpgrp(), "session": os.getsid(0),
        "descriptors": sorted(name for name in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + name)),
        "arguments": sys.argv[2:],
    }, file)
"""


def test_stdin_and_stdout_pass_through_byte_for_byte(kit: Any) -> None:
    """8 MiB of random bytes go through `cat` unchanged, and what it says on stderr is all that is on stderr."""
    given = os.urandom(8 * 1024**2)
    done = kit.run("--", "/bin/sh", "-c", "cat; echo words >&2", given=given)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(given).digest()
    assert (done.returncode, done.stderr) == (0, b"words\n")


def test_memguard_takes_nothing_from_stdin(kit: Any) -> None:
    """What a command does not read is there for whoever reads next, as in a shell's `while read` loop."""
    done = kit.start(
        "/bin/sh",
        "-c",
        'read a; "$@"; read b; echo "$a $b"',
        "sh",
        _memguard(),
        "run",
        "true",
        stdin=subprocess.PIPE,
    )
    assert kit.finish(done, b"one\ntwo\n").stdout == b"one two\n"


def _memguard() -> str:
    return os.path.join(os.path.dirname(sys.executable), "memguard")


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_stay_closed(kit: Any, closed: str) -> None:
    """A command finds a stream closed that was closed for memguard, and nothing of memguard's in its place."""
    look = "import os, sys; open(sys.argv[1], 'w').write(' '.join(sorted(os.listdir('/proc/self/fd'))))"
    for name, guard in (("bare", ""), ("wrapped", f"{_memguard()} run --json --")):
        script = f'exec {guard} "$@" {closed}'
        done = kit.finish(kit.start("/bin/sh", "-c", script, "sh", *BARE, look, name))
        assert (done.returncode, done.stderr) == (0, b"")
    assert (kit.folder / "wrapped").read_text() == (kit.folder / "bare").read_text()


def test_words_for_a_closed_stderr_are_said_nowhere(kit: Any) -> None:
    """An error with stderr closed is not written to stdout instead, and keeps its status."""
    done = kit.finish(kit.start("/bin/sh", "-c", f"exec {_memguard()} run -- no-such-command 2>&-"))
    assert (done.returncode, done.stdout) == (127, b"")


def test_everything_inherited_is_the_same(kit: Any) -> None:
    """Folder, umask, limits, nice, affinity, blocked signals, group, session, open descriptors: as without memguard."""
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    os.set_inheritable(writer, True)
    before = (
        "import os, resource, signal, sys\n"
        "os.umask(0o027); os.nice(3); os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300)); resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM, signal.SIGPROF})\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    portraits = []
    try:
        for name, guard in (("bare", ()), ("wrapped", (_memguard(), "run", "--"))):
            words = (*BARE, before, *guard, *BARE, SELF_PORTRAIT, str(kit.folder / name), "a b", "", "*")
            # memguard itself must not lead the group, for then group and session would be its own.
            done = kit.finish(kit.start(*words, pass_fds=(reader, writer)))
            assert (done.returncode, done.stderr) == (0, b"")
            portraits.append(json.loads((kit.folder / name).read_text()))
    finally:
        os.close(reader)
        os.close(writer)
    bare, wrapped = portraits
    assert wrapped == bare
    assert {str(reader), str(writer)} < set(bare["descriptors"])
    assert bare["arguments"] == ["a b", "", "*"]


def test_a_jobservers_pipe_is_usable(kit: Any) -> None:
    """Tokens that lie in an inherited pipe can be taken and given back, as `make -j` and its children do."""
    reader, writer = os.pipe()
    try:
        os.write(writer, b"++")
        script = f"dd bs=1 count=1 <&{reader} 2>/dev/null; printf - >&{writer}"
        assert kit.run("--", "/bin/bash", "-c", script, pass_fds=(reader, writer)).stdout == b"+"
        assert os.read(reader, 10) == b"+-"
    finally:
        os.close(reader)
        os.close(writer)


def test_only_the_jobs_own_variables_are_added(kit: Any) -> None:
    """The environment is the same but for MEMGUARD_JOB_*; in the C locale too, where Python would add LC_CTYPE."""
    # Of ours only what keeps this from the ledger and the past of whoever runs the tests.
    apart = {name: value for name, value in kit.environment.items() if name.startswith("MEMGUARD_")}
    bare = {"PATH": os.environ["PATH"], "ODD": "a=b c\n", "LANG": "C", **apart}
    wrapped = kit.finish(
        subprocess.Popen(
            [_memguard(), "run", "--", "env", "-0"], env=bare, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    )
    found = dict(line.split("=", 1) for line in wrapped.stdout.decode().split("\0") if line)
    own = {name for name in found if name.startswith("MEMGUARD_JOB_")}
    assert own == {"MEMGUARD_JOB_ID", "MEMGUARD_JOB_BUDGET", "MEMGUARD_JOB_LEASE"}
    assert {name: value for name, value in found.items() if name not in own} == bare
    assert wrapped.stderr == b""


def test_a_locale_that_was_set_is_kept(kit: Any) -> None:
    """LC_CTYPE is left alone where it came from outside, even with the value that Python would have set."""
    done = kit.run(
        "--", "/bin/sh", "-c", 'echo "$LC_CTYPE"', environment={"LC_CTYPE": "C.UTF-8", "LANG": "C"}
    )
    assert done.stdout == b"C.UTF-8\n"


@pytest.mark.parametrize(
    ("ignored", "expected"),
    [
        ([], []),
        (["SIGINT", "SIGQUIT", "SIGHUP"], ["SIGINT", "SIGQUIT", "SIGHUP"]),
        (["SIGCHLD", "SIGTERM"], ["SIGCHLD", "SIGTERM"]),
    ],
)
def test_signal_dispositions_are_those_of_outside(kit: Any, ignored: list[str], expected: list[str]) -> None:
    """What a parent such as nohup ignores stays ignored, nothing else is (SIGPIPE above all), and the status is kept."""
    parent = (
        "import os, signal, sys\n"
        "for name in (name for name in sys.argv[1].split(',') if name): signal.signal(getattr(signal, name), signal.SIG_IGN)\n"
        "signal.signal(signal.SIGPIPE, signal.SIG_DFL); signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "os.execv(sys.argv[2], sys.argv[2:])\n"
    )
    done = kit.finish(
        kit.start(
            *BARE, parent, ",".join(ignored), _memguard(), "run", "--", "grep", "SigIgn", "/proc/self/status"
        )
    )
    mask = int(done.stdout.split()[1], 16)
    found = {number for number in signal.valid_signals() if mask >> (number - 1) & 1}
    assert found == {getattr(signal, name) for name in expected}
    assert done.returncode == 0


def test_a_writer_into_a_closed_pipe_dies_of_sigpipe(kit: Any) -> None:
    """`memguard run yes | head -1` ends at once and in silence, with the status of SIGPIPE."""
    script = f"{_memguard()} run -- yes | head -1; echo ${{PIPESTATUS[0]}}"
    done = kit.finish(kit.start("/bin/bash", "-c", script))
    assert (done.stdout, done.stderr) == (b"y\n141\n", b"")


def test_a_folder_that_is_gone_is_no_hindrance(kit: Any) -> None:
    """memguard runs a command in a working directory that was removed, as the shell does."""
    script = f"mkdir gone && cd gone && rmdir ../gone && exec {_memguard()} run -- false"
    done = kit.finish(kit.start("/bin/sh", "-c", script))
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_lock_of_the_caller_is_not_kept(kit: Any) -> None:
    """A lock on an inherited descriptor is free once memguard has ended: nothing of memguard lives on with it."""
    with (kit.folder / "lock").open("w") as file:
        script = f"flock 9; {_memguard()} run -- true"
        done = kit.finish(kit.start("/bin/bash", "-c", f"exec 9<>lock; {script}"))
        assert done.returncode == 0
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
