"""What breaks around a wrapped command does not break it: helpers killed, streams unread, disks full, no cgroups."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MEMGUARD = os.path.join(os.path.dirname(sys.executable), "memguard")
BARE = (sys.executable, "-I", "-S", "-c")
MIB = 1024**2
FENCES = ("auto", "rlimit", "none")
# A daemon that nobody but memguard's janitor knows of, and a child; all deaf to SIGTERM. Tells their pids.
TREE = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
reader, writer = os.pipe()
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writer, b"%d " % os.getpid())
        time.sleep(60)
        os._exit(0)
pids = b""
while pids.count(b" ") < 2:
    pids += os.read(reader, 100)
os.write(1, b"%d %s\\n" % (os.getpid(), pids))
time.sleep(60)
"""
FINISHES = ("/bin/sh", "-c", "echo ready; read line; exit 7")


def start(kit: Any, *words: str, **options: Any) -> Any:
    process = kit.guard(*words, stdin=subprocess.PIPE, **options)
    assert kit.line(process.stdout) == "ready"
    return process


def janitor_of(kit: Any, process: subprocess.Popen[bytes]) -> int:
    """Return the child of memguard that executed no program of its own."""
    own = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    (pid,) = [pid for pid in kit.children_of(process.pid) if Path(f"/proc/{pid}/cmdline").read_bytes() == own]
    return int(pid)


@pytest.mark.requirement("R1.4")
@pytest.mark.parametrize("fence", FENCES)
def test_memguard_killed_takes_its_tree_along(kit: Any, fence: str) -> None:
    """After kill -9 of memguard no process of the command is left, in whatever session, and no cgroup."""
    process = kit.guard("--", *BARE, TREE, environment={"MEMGUARD_FENCE": fence})
    pids = [int(word) for word in kit.line(process.stdout).split()]
    assert len(pids) == 3
    assert all(kit.is_running(pid) for pid in pids)
    process.kill()
    kit.finish(process)  # its pipes end when the last of the tree, and the janitor, are gone
    assert [pid for pid in pids if kit.is_running(pid)] == []
    assert kit.marked() == []


SHARES = """
import os, sys
files = [open(path, "ab") for path in sys.argv[1:]]
for file in files:
    file.write(b"x")
    file.flush()
print("ready", flush=True)
sys.stdin.read()
"""


def noted_by(janitor: int) -> bytes:
    """Return what a janitor would remove."""
    links = Path(f"/proc/{janitor}/fd").iterdir()
    return b"".join(link.read_bytes() for link in links if "memfd:memguard-janitor" in os.readlink(link))


@pytest.mark.requirement("R1.4")
def test_memguard_killed_leaves_no_shared_memory(kit: Any) -> None:
    """After kill -9 of memguard the command's new file in /dev/shm is gone too; one that was there before it is not."""
    old, new = (Path(f"/dev/shm/memguard-test-{os.getpid()}-{word}") for word in ("old", "new"))
    old.write_bytes(b"o")
    try:
        process = start(kit, "--", *BARE, SHARES, str(old), str(new))
        janitor = janitor_of(kit, process)
        kit.wait_until(lambda: str(new).encode() in noted_by(janitor), "the guard has seen the file")
        process.kill()
        kit.finish(process)
        kit.wait_until(lambda: not kit.is_running(janitor), "the janitor is done")
        assert old.read_bytes() == b"ox"
        assert not new.exists()
    finally:
        for path in (old, new):
            path.unlink(missing_ok=True)


REPLACES = """
import os, sys
path = sys.argv[1]
first = open(path, "wb")
print("ready", flush=True)
sys.stdin.readline()
first.close()
os.unlink(path)
second = open(path, "wb")
print("again", flush=True)
sys.stdin.read()
"""


@pytest.mark.requirement("R1.4")
def test_a_file_replaced_under_its_name_is_removed_too(kit: Any) -> None:
    """A new file of the same name in /dev/shm is another file: it goes with a wrapper that is killed as well."""
    path = Path(f"/dev/shm/memguard-test-{os.getpid()}")
    try:
        process = start(kit, "--", *BARE, REPLACES, str(path))
        janitor = janitor_of(kit, process)
        kit.wait_until(lambda: str(path).encode() in noted_by(janitor), "the guard has seen the first file")
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"again\n"
        inode = f'"inode": {path.stat().st_ino}'.encode()
        kit.wait_until(lambda: inode in noted_by(janitor), "the guard has seen the second file")
        process.kill()
        kit.finish(process)
        kit.wait_until(lambda: not kit.is_running(janitor), "the janitor is done")
        assert not path.exists()
    finally:
        path.unlink(missing_ok=True)


def test_a_limit_on_the_size_of_files_harms_nobody(kit: Any) -> None:
    """Under `ulimit -f 0` the shared memory of a command cannot be noted: the command runs, and the report says so."""
    path = Path(f"/dev/shm/memguard-test-{os.getpid()}")
    program = (
        f"import os, time; f = open({str(path)!r}, 'wb'); time.sleep(1); os.unlink(f.name); print('done')"
    )
    words = (MEMGUARD, "run", "--", *BARE, program)
    done = kit.finish(kit.start("/bin/sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *words))
    assert (done.returncode, done.stdout) == (0, b"done\n")
    assert b"could not be noted" in done.stderr


@pytest.mark.requirement("R1.4")
@pytest.mark.usefixtures("needs_fence")
def test_the_next_run_clears_what_a_killed_group_left(kit: Any) -> None:
    """When memguard and its janitor are killed together, the next `memguard run` ends the tree and removes its cgroup."""
    process = kit.guard("--", *BARE, TREE)
    pids = [int(word) for word in kit.line(process.stdout).split()]
    janitor = janitor_of(kit, process)
    os.kill(janitor, signal.SIGSTOP)
    process.kill()
    process.wait()
    os.kill(janitor, signal.SIGKILL)
    kit.wait_until(lambda: not kit.is_running(pids[0]), "the kernel has ended the command with its guard")
    assert all(kit.is_running(pid) for pid in pids[1:])
    assert kit.run("--", "true").returncode == 0
    kit.wait_until(lambda: not any(kit.is_running(pid) for pid in pids), "the tree is gone")


def test_a_killed_janitor_ends_nothing(kit: Any) -> None:
    """After kill -9 of the janitor the command goes on, gets its signals, keeps its status; the report says so."""
    script = ("/bin/sh", "-c", 'trap "echo got it" USR1; echo ready; while :; do read line && exit 7; done')
    process = start(kit, "--report", "r.json", "--", *script)
    janitor = janitor_of(kit, process)
    os.kill(janitor, signal.SIGKILL)
    kit.wait_until(lambda: janitor not in kit.children_of(process.pid), "memguard has reaped it")
    process.send_signal(signal.SIGUSR1)
    assert kit.line(process.stdout) == "got it"
    done = kit.finish(process, b"\n")
    assert done.returncode == 7
    report = json.loads((kit.folder / "r.json").read_text())
    assert len(report["guard_degraded"]) == 1
    assert "janitor was killed" in report["guard_degraded"][0]
    assert done.stderr.decode() == f"memguard: the guard was degraded: {report['guard_degraded'][0]}\n"


def test_a_stopped_janitor_holds_nobody_up(kit: Any) -> None:
    """A janitor that somebody stopped with SIGSTOP is dismissed all the same."""
    process = start(kit, "--", *FINISHES)
    os.kill(janitor_of(kit, process), signal.SIGSTOP)
    assert kit.finish(process, b"\n").returncode == 7


def test_a_stopped_memguard_goes_on_where_it_was(kit: Any) -> None:
    """SIGSTOP to memguard does not touch the command; what it does meanwhile is found after SIGCONT."""
    process = start(kit, "--", *FINISHES)
    process.send_signal(signal.SIGSTOP)
    (command,) = set(kit.children_of(process.pid)) - {janitor_of(kit, process)}
    process.stdin.write(b"\n")
    process.stdin.flush()
    kit.wait_until(lambda: kit.status_field(command, "State")[:1] == "Z", "the command has ended")
    process.send_signal(signal.SIGCONT)
    assert kit.finish(process).returncode == 7


@pytest.mark.usefixtures("needs_fence")
def test_a_stopped_memguard_still_bounds(kit: Any) -> None:
    """The fence holds while memguard is stopped: the kernel kills, and memguard finds and tells it afterwards."""
    script = "import os, sys; os.write(1, b'ready\\n'); sys.stdin.readline(); taken = bytearray(400 << 20)"
    process = start(kit, "--memory", "100MiB", "--", *BARE, script)
    process.send_signal(signal.SIGSTOP)
    (command,) = set(kit.children_of(process.pid)) - {janitor_of(kit, process)}
    process.stdin.write(b"\n")
    process.stdin.flush()
    kit.wait_until(lambda: kit.status_field(command, "State")[:1] == "Z", "the kernel has killed")
    process.send_signal(signal.SIGCONT)
    done = kit.finish(process)
    assert done.returncode == 137
    assert b"its memory reached its budget" in done.stderr


@pytest.mark.parametrize("way", ["closed by its reader", "on a full disk", "closed"])
def test_a_broken_stderr_ends_nothing(kit: Any, way: str) -> None:
    """A warning that cannot be said does not end the command, nor change its status."""
    program = "import os, sys; taken = bytearray(170 << 20); os.write(1, b'ready\\n'); sys.stdin.readline(); sys.exit(7)"
    words = (MEMGUARD, "run", "--memory", "200MiB", "--", *BARE, program)
    closing = {"closed by its reader": "", "on a full disk": "2>/dev/full", "closed": "2>&-"}[way]
    process = kit.start("/bin/sh", "-c", f'exec "$@" {closing}', "sh", *words, stdin=subprocess.PIPE)
    process.stderr.close()
    assert kit.line(process.stdout) == "ready"
    process.stdin.write(b"\n")
    process.stdin.close()
    assert process.stdout.read() == b""
    assert process.wait(60) == 7


@pytest.mark.parametrize("fence", FENCES)
def test_an_unread_stderr_does_not_stop_the_guard(kit: Any, fence: str) -> None:
    """Though nobody reads the full pipe that stderr is, what passes the budget is killed."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        while _fill(writer):
            pass
        os.set_blocking(writer, True)
        program = (
            "import os, time; taken = bytearray(170 << 20); taken += bytearray(200 << 20); time.sleep(60)"
        )
        options = ("-q", "--report", "r.json", "--memory", "200MiB")
        quiet = kit.guard(
            *options, "--", *BARE, program, environment={"MEMGUARD_FENCE": fence}, stderr=writer
        )
        loud = kit.guard(
            *options[3:], "--", *BARE, program, environment={"MEMGUARD_FENCE": fence}, stderr=writer
        )
        assert quiet.wait(60) == 137
        # It has still to tell of the death, for which it waits until somebody reads.
        kit.wait_until(lambda: kit.children_of(loud.pid) == (), "its command is gone")
        assert loud.poll() is None
        os.set_blocking(reader, False)
        while loud.poll() is None:
            _drain(reader)
        assert loud.returncode == 137
    finally:
        os.close(reader)
        os.close(writer)


def _fill(writer: int) -> bool:
    try:
        return os.write(writer, b"x" * 4096) > 0
    except BlockingIOError:
        return False


def _drain(reader: int) -> None:
    try:
        os.read(reader, 65536)
    except BlockingIOError:
        return


@pytest.mark.parametrize(("target", "words"), [(">&-", b""), (">/dev/full", b"No space left on device")])
def test_json_that_cannot_be_printed_keeps_the_status(kit: Any, target: str, words: bytes) -> None:
    """With stdout closed or full, --json costs one line on stderr at most, and the command's status is kept."""
    done = kit.finish(
        kit.start("/bin/sh", "-c", f'exec "$@" {target}', "sh", MEMGUARD, "run", "--json", "--", "false")
    )
    assert (done.returncode, done.stderr.count(b"\n")) == (1, int(bool(words)))
    assert words in done.stderr


def test_json_into_a_closed_pipe_is_quiet(kit: Any) -> None:
    """`memguard run --json cmd | true` ends with the command's status and says nothing."""
    script = f"{MEMGUARD} run --json -- /bin/sh -c 'sleep 0.3; exit 7' | true; echo ${{PIPESTATUS[0]}}"
    done = kit.finish(kit.start("/bin/bash", "-c", script))
    assert (done.stdout, done.stderr) == (b"7\n", b"")


@pytest.fixture
def own_mounts(kit: Any) -> Any:
    """Give a way to run a script with mounts of its own, which vanish with it."""

    def run(script: str, **options: Any) -> Any:
        return kit.finish(kit.start("unshare", "--mount", "/bin/sh", "-c", script, **options))

    if shutil.which("unshare") is None or run("mount -t tmpfs none /mnt").returncode != 0:
        pytest.skip("no mounts can be made here")
    return run


def test_a_full_disk_leaves_no_part_of_a_report(kit: Any, own_mounts: Any) -> None:
    """A report that does not fit on its disk is told in one line; the status is kept and no partial file is left."""
    script = f"""
mkdir disk && mount -t tmpfs -o size=16k none disk && cat /dev/zero >disk/filler 2>/dev/null
{MEMGUARD} run --report disk/r.json -- /bin/sh -c 'exit 7'; echo "status $?"; ls -A disk
"""
    done = own_mounts(script)
    assert done.stdout == b"status 7\nfiller\n"
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("memguard: disk/r.json could not be written: No space left on device; ")


def test_a_disk_that_cannot_be_written_is_refused_before_the_start(kit: Any, own_mounts: Any) -> None:
    """A report on a read-only disk is wrong usage, and the command never runs."""
    script = f"""
mkdir disk && mount -t tmpfs -o ro none disk
{MEMGUARD} run --report disk/r.json -- touch it-ran; echo "status $?"; ls
"""
    done = own_mounts(script)
    assert done.stdout == b"status 2\ndisk\n"
    assert done.stderr == b"memguard: disk/r.json: its folder is not writable; name a file elsewhere\n"


@pytest.mark.requirement("R2.1")
@pytest.mark.parametrize("fence", ["auto", "cgroup"])
@pytest.mark.parametrize("missing", ["mount -o bind,remount,ro", "umount"])
def test_without_cgroups_a_command_is_bounded_still(
    kit: Any, own_mounts: Any, hog: Any, missing: str, fence: str
) -> None:
    """Where no cgroup can be made the watcher bounds; that is a fault of the guard only where a cgroup was asked for."""
    words = " ".join([*hog, "--mib", "300", "--hold-seconds", "30"])
    script = f"""
awk '$2 ~ "^/sys/fs/cgroup" {{print $2}}' /proc/mounts | sort -r | while read each; do {missing} $each; done
exec {MEMGUARD} run --memory 150MiB --report r.json -- {words}
"""
    done = own_mounts(script, environment={"MEMGUARD_FENCE": fence})
    report = json.loads((kit.folder / "r.json").read_text())
    assert (done.returncode, report["outcome"], report["budget"]["fence"]) == (137, "budget_kill", "rlimit")
    assert bool(report["guard_degraded"]) is (fence == "cgroup")
    assert (b"memguard doctor" in done.stderr) is (fence == "cgroup")


@pytest.mark.parametrize("descriptors", [6, 9, 12, 15, 20, 30])
def test_few_descriptors_are_told_or_enough(kit: Any, descriptors: int) -> None:
    """With a low limit of open files the command runs, or memguard says in one line that it could not start it."""
    words = (MEMGUARD, "run", "--", "/bin/sh", "-c", "exit 7")
    done = kit.finish(kit.start("/bin/sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *words))
    if done.returncode != 7:
        assert (done.returncode, done.stderr.count(b"\n")) == (125, 1)
        assert done.stderr.startswith(b"memguard: ")
        assert descriptors < 30


def test_a_command_that_became_another_user_goes_on(kit: Any) -> None:
    """A signal that may not be passed on (the command runs as somebody else now) does not end it; the report says so."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("giving up a right needs root and setpriv")
    # memguard gives up the right to signal others' processes; the command is another user from the start.
    become = "import os, sys; os.setuid(65534); os.write(1, b'ready\\n'); sys.stdin.readline(); sys.exit(7)"
    words = (
        "setpriv",
        "--inh-caps=-kill",
        "--bounding-set=-kill",
        MEMGUARD,
        "run",
        "--report",
        "r.json",
        "--",
    )
    process = kit.start(*words, *BARE, become, stdin=subprocess.PIPE)
    assert kit.line(process.stdout) == "ready"
    process.send_signal(signal.SIGUSR1)
    kit.wait_until(lambda: not kit.is_pending(process.pid, signal.SIGUSR1), "memguard has taken it")
    done = kit.finish(process, b"\n")
    report = json.loads((kit.folder / "r.json").read_text())
    assert (done.returncode, report["outcome"]) == (7, "raised")
    (fault,) = report["guard_degraded"]
    assert fault.startswith("SIGUSR1 could not be passed on: ")
