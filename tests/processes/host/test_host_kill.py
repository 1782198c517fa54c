"""Signals and identities against real processes, with a pid that really is used again."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from memguard.host import (
    TreeSampler,
    identify,
    is_alive,
    kill_processes,
    probe,
    raise_oom_score,
)
from memguard.host.identity import read_stat
from memguard.host.readings import ProcessIdentity

if TYPE_CHECKING:
    from conftest import Helper

Helpers = Callable[..., "Helper"]

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"])


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@pytest.fixture
def reused() -> Iterator[tuple[ProcessIdentity, subprocess.Popen[bytes]]]:
    """A process that ended, and a living one that the kernel gave the same pid."""
    if not os.access(LAST_PID, os.W_OK):
        pytest.skip("the next pid cannot be chosen here (/proc/sys/kernel/ns_last_pid)")
    first = sleeper()
    former = identify(first.pid)
    end(first)
    # Others on this machine fork as well, so the pid may be taken in between: try again.
    for _ in range(200):
        LAST_PID.write_text(str(former.pid - 1))
        second = sleeper()
        if second.pid == former.pid and identify(second.pid) != former:
            yield former, second
            end(second)
            return
        end(second)
    pytest.skip("other programs were always faster to take the pid")


def test_a_reused_pid_is_another_process(reused: tuple[ProcessIdentity, subprocess.Popen[bytes]]) -> None:
    """The former owner is dead, and neither counted nor killed in the person of the new one."""
    former, now = reused
    assert not is_alive(former)
    assert is_alive(identify(now.pid))
    assert kill_processes([(former.pid, former.start_ticks)]) == ()
    assert now.poll() is None
    assert kill_processes([(now.pid, read_stat(now.pid).start_ticks)]) == (now.pid,)
    assert now.wait() == -signal.SIGKILL


def test_a_tree_does_not_take_in_a_reused_pid(helper: Helper) -> None:
    """A member that ended is gone for good, also when its pid comes back to somebody else."""
    if not os.access(LAST_PID, os.W_OK):
        pytest.skip("the next pid cannot be chosen here (/proc/sys/kernel/ns_last_pid)")
    child = helper.fork("ready()\nsignal.pause()")
    sampler = TreeSampler(helper.pid)
    ticks = dict(sampler.processes())[child]
    helper.do(f"os.kill({child}, signal.SIGKILL); os.waitpid({child}, 0)")
    stranger = None
    try:
        for _ in range(200):
            LAST_PID.write_text(str(child - 1))
            stranger = sleeper()
            if stranger.pid == child and read_stat(child).start_ticks != ticks:
                break
            end(stranger)
        else:
            pytest.skip("other programs were always faster to take the pid")
        # Choosing the pid has turned back the count by which the sampler sees that somebody forked.
        end(sleeper())
        assert {process.pid for process in sampler.sample().processes} == {helper.pid}
        assert child not in dict(sampler.processes())
    finally:
        if stranger is not None:
            end(stranger)


def test_a_zombie_is_dead(helper: Helper) -> None:
    """A process that ended counts as dead before its parent has taken notice."""
    child = helper.fork("ready()\nsignal.pause()")
    identity = identify(child)
    assert is_alive(identity)
    helper.do(f"os.kill({child}, signal.SIGKILL); os.waitid(os.P_PID, {child}, os.WEXITED | os.WNOWAIT)")
    assert read_stat(child).state == "Z"
    assert not is_alive(identity)
    assert kill_processes([(child, identity.start_ticks)]) == ()
    helper.do(f"os.waitpid({child}, 0)")
    assert not is_alive(identity)


def test_a_process_of_another_user_is_alive(helper: Helper, nobody: Helper) -> None:
    """What may not be signalled is alive, and a signal that is not permitted is not reported as sent."""
    ticks = read_stat(helper.pid).start_ticks
    answer = nobody.do(
        "from memguard.host import identify, is_alive, kill_processes\n"
        f"answer = [is_alive(identify({helper.pid})), kill_processes([({helper.pid}, {ticks})])]"
    )
    assert answer == [True, []]
    assert helper.process.poll() is None


def test_many_are_killed_and_the_killed_are_named(helpers: Helpers) -> None:
    """Each living one gets the signal and is in the answer; nobody else is."""
    all_of_them = [helpers() for _ in range(3)]
    pairs = [(each.pid, read_stat(each.pid).start_ticks) for each in all_of_them]
    gone = (2**22 + 1, 5)
    impossible = (0, 0)
    assert kill_processes([*pairs[:2], gone, impossible]) == (all_of_them[0].pid, all_of_them[1].pid)
    assert [each.process.wait() for each in all_of_them[:2]] == [-signal.SIGKILL] * 2
    assert all_of_them[2].do("answer = 1") == 1
    assert kill_processes(pairs[2:], signal.SIGTERM) == (all_of_them[2].pid,)
    assert all_of_them[2].process.wait() == -signal.SIGTERM


def test_the_oom_score_is_raised_and_never_lowered(helper: Helper) -> None:
    """The kernel takes a raised score from anybody; a lower one is left as it is."""
    path = Path(f"/proc/{helper.pid}/oom_score_adj")
    before = int(path.read_text())
    assert raise_oom_score(helper.pid, 700)
    assert int(path.read_text()) == max(before, 700)
    assert raise_oom_score(helper.pid, 300)
    assert int(path.read_text()) == max(before, 700)
    assert not raise_oom_score(2**22 + 1, 300)
    with pytest.raises(ValueError, match="1001"):
        raise_oom_score(helper.pid, 1001)


@pytest.mark.requirement("R1.4")
def test_a_job_dies_with_its_parent(helper: Helper) -> None:
    """A child that asked for it is killed when its parent is, and at once if the parent is gone."""
    child = helper.fork(
        "from memguard.host import die_with_parent\ndie_with_parent(signal.SIGKILL)\nready()\nsignal.pause()"
    )
    handle = os.pidfd_open(child)
    helper.end()
    assert select.select([handle], [], [], 10)[0]
    os.close(handle)


def test_a_parent_that_died_early_is_noticed(helper: Helper) -> None:
    """A child that finds another parent than it expected kills itself as if it had asked in time."""
    status = helper.do(
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    from memguard.host import die_with_parent\n"
        "    die_with_parent(signal.SIGTERM, parent_pid=1 if os.getppid() != 1 else 2)\n"
        "    os._exit(0)\n"
        "answer = os.waitpid(pid, 0)[1]"
    )
    assert status == signal.SIGTERM


def test_orphans_come_to_a_subreaper(helper: Helper) -> None:
    """After become_subreaper() a double-forked process is a child of the caller."""
    if not probe().subreaper:
        pytest.skip(f"no subreaper: {probe().subreaper.reason}")
    parent = helper.do(
        "from memguard.host import become_subreaper\n"
        "become_subreaper()\n"
        "reader, writer = os.pipe()\n"
        "back, gone = os.pipe()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    if os.fork() == 0:\n"
        "        os.close(gone); os.read(back, 1)\n"
        "        os.write(writer, str(os.getppid()).encode()); os._exit(0)\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0); os.close(gone)\n"
        "answer = int(os.read(reader, 20)); os.wait()"
    )
    assert parent == helper.pid


def test_every_ability_has_its_reason() -> None:
    """Whatever the probe finds, it says how it knows, and the best fence follows from it."""
    abilities = probe()
    reasons = [
        abilities.fence,
        abilities.swap_accounting,
        abilities.pidfd,
        abilities.process_mrelease,
        abilities.subreaper,
        abilities.memfd,
        abilities.pressure,
        abilities.smaps_rollup,
        abilities.rlimit_data,
    ]
    assert all(ability.reason for ability in reasons)
    assert abilities.cgroup_version in {"v1", "v2", "hybrid", "none"}
    expected = abilities.fence_kind if abilities.fence else "rlimit" if abilities.rlimit_data else "none"
    assert abilities.best_fence == expected
    assert probe() is abilities
