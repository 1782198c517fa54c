"""Fences for real: cgroups that the kernel enforces, read from outside and from inside."""

from __future__ import annotations

import os
import pickle
import select
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from memguard.host import Fence, FenceError, find_stale_fences, identify, open_fence, sweep_stale_fences
from memguard.host.fence_names import parse_fence_name
from memguard.units import MIB

if TYPE_CHECKING:
    from conftest import Helper

MakeFence = Callable[..., Fence]
Enter = Callable[["Helper", Fence], None]
Helpers = Callable[..., "Helper"]

CAPACITY_INSIDE = """
from memguard.host import read_machine
reading = read_machine()
answer = [reading.capacity_bytes, reading.used_bytes, reading.binding.path, list(reading.notes)]
"""


def capacity_inside(helper: Helper) -> tuple[int, int, str]:
    capacity_bytes, used_bytes, path, notes = helper.do(CAPACITY_INSIDE)
    assert notes == []
    return capacity_bytes, used_bytes, path


@pytest.mark.requirement("R2.1")
def test_the_kernel_keeps_the_limit(make_fence: MakeFence, helper: Helper, enter: Enter) -> None:
    """A process that takes more than its fence allows is killed by the kernel, and the fence counts it."""
    fence = make_fence(64 * MIB)
    enter(helper, fence)
    helper.send("taken = bytearray(200 * MIB)")
    assert helper.process.wait() == -signal.SIGKILL
    reading = fence.read()
    assert reading.oom_kills == 1
    assert reading.limit_hits > 0
    assert reading.high_water_bytes is not None
    assert 60 * MIB <= reading.high_water_bytes <= 64 * MIB
    assert reading.used_bytes < 8 * MIB


def test_memory_is_seen_from_both_sides(make_fence: MakeFence, helper: Helper, enter: Enter) -> None:
    """Outside, the fence tells what is used; inside, it is the bound that binds, with the same use."""
    fence = make_fence(256 * MIB)
    enter(helper, fence)
    before = fence.read().used_bytes
    helper.do("taken = bytearray(40 * MIB)")
    assert 39 * MIB < fence.read().used_bytes - before < 44 * MIB
    capacity_bytes, used_bytes, path = capacity_inside(helper)
    assert capacity_bytes == 256 * MIB
    assert path.startswith(fence.path)
    assert abs(used_bytes - fence.read().used_bytes) < 4 * MIB
    assert fence.read().limit_hits == 0


def test_file_cache_is_not_used_memory(
    make_fence: MakeFence, helper: Helper, enter: Enter, tmp_path: Path
) -> None:
    """64 MiB written to a disk and read again are charged to the fence, but nobody needs them."""
    if tmp_path.stat().st_dev == Path("/dev/shm").stat().st_dev:
        pytest.skip("the temporary directory is not on a disk")
    fence = make_fence(512 * MIB)
    enter(helper, fence)
    before = fence.read()
    helper.do(
        f"with open({str(tmp_path / 'data')!r}, 'wb+') as file:\n"
        "    for _ in range(64): file.write(os.urandom(MIB))\n"
        "    file.flush(); os.fsync(file.fileno()); file.seek(0)\n"
        "    while file.read(MIB): pass"
    )
    reading = fence.read()
    assert reading.cache_bytes - before.cache_bytes > 60 * MIB
    assert reading.charged_bytes - before.charged_bytes > 60 * MIB
    assert reading.used_bytes - before.used_bytes < 12 * MIB
    assert capacity_inside(helper)[1] < reading.charged_bytes - 50 * MIB


def test_tmpfs_is_used_memory(make_fence: MakeFence, helper: Helper, enter: Enter) -> None:
    """32 MiB in /dev/shm cannot be dropped, so they count, until the file is removed."""
    fence = make_fence(256 * MIB)
    enter(helper, fence)
    before = fence.read().used_bytes
    helper.do(
        "import tempfile\nfile = tempfile.TemporaryFile(dir='/dev/shm')\nfile.write(bytes(32 * MIB))\nfile.flush()"
    )
    reading = fence.read()
    assert reading.used_bytes - before > 31 * MIB
    assert capacity_inside(helper)[1] > 31 * MIB
    helper.do("file.close()")
    assert fence.read().used_bytes - before < 8 * MIB


def test_fences_nest(make_fence: MakeFence, helper: Helper, enter: Enter) -> None:
    """A fence made inside a fence bounds on its own; the outer one counts its use, but not its deaths."""
    outer = make_fence(256 * MIB)
    enter(helper, outer)
    path = helper.do(
        "from memguard.host import open_fence\n"
        "inner = open_fence('inner', 48 * MIB)\n"
        "answer = inner and inner.path"
    )
    assert path is not None
    pid = helper.fork("inner.enter()\ntaken = bytearray(30 * MIB)\nready()\nsignal.pause()")
    assert pid in outer.pids()
    assert outer.read().used_bytes > 30 * MIB
    helper.do(f"os.kill({pid}, signal.SIGKILL); os.waitpid({pid}, 0)")
    code = "pid = os.fork()\nif pid == 0:\n    inner.enter(); taken = bytearray(100 * MIB); os._exit(0)\n"
    assert helper.do(code + "answer = os.waitpid(pid, 0)[1]") == signal.SIGKILL
    assert helper.do("answer = inner.read().oom_kills") == 1
    assert outer.read().oom_kills == 0
    helper.do("inner.remove()")


@pytest.mark.requirement("R2.4")
def test_one_fence_bursts_and_its_neighbour_does_not(
    make_fence: MakeFence, helpers: Helpers, enter: Enter
) -> None:
    """A process that exceeds its own fence does not touch one in another fence."""
    bad, good = helpers(), helpers()
    bad_fence, good_fence = make_fence(48 * MIB), make_fence(48 * MIB)
    enter(bad, bad_fence)
    enter(good, good_fence)
    good.do("taken = bytearray(20 * MIB)")
    bad.send("taken = bytearray(200 * MIB)")
    assert bad.process.wait() == -signal.SIGKILL
    assert good.do("answer = len(taken)") == 20 * MIB
    assert (bad_fence.read().oom_kills, good_fence.read().oom_kills) == (1, 0)


def test_a_limit_can_be_changed(make_fence: MakeFence, helper: Helper, enter: Enter) -> None:
    """Raised, it lets more in; lowered, it bounds again; a reading tells the limit of now."""
    fence = make_fence(64 * MIB)
    enter(helper, fence)
    fence.resize(256 * MIB)
    helper.do("taken = bytearray(100 * MIB)")
    assert fence.read().limit_bytes == 256 * MIB
    helper.do("del taken")
    fence.resize(64 * MIB)
    assert capacity_inside(helper)[0] == 64 * MIB
    helper.send("taken = bytearray(100 * MIB)")
    assert helper.process.wait() == -signal.SIGKILL


def test_kill_all_leaves_nobody(make_fence: MakeFence, helper: Helper, enter: Enter) -> None:
    """Children in sessions of their own and deaf to SIGTERM die with the rest; then it can be removed."""
    fence = make_fence(256 * MIB)
    enter(helper, fence)
    for _ in range(12):
        helper.fork("os.setsid()\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nready()\nsignal.pause()")
    assert len(fence.pids()) == 13
    fence.kill_all()
    assert fence.pids() == ()
    fence.remove()
    assert not os.path.exists(fence.path)
    fence.remove()


def test_a_fork_bomb_is_outrun(make_fence: MakeFence, helper: Helper, enter: Enter) -> None:
    """Processes that fork again and again while they are killed are killed all the same."""
    fence = make_fence(64 * MIB)
    enter(helper, fence)
    # At most 24 generations, so that a guard that fails this test does not take the machine with it.
    helper.send(
        "for generation in range(24):\n    if os.fork() == 0: signal.alarm(20)\n    else: os._exit(0)"
    )
    fence.kill_all()
    assert fence.pids() == ()


def test_a_fence_with_people_inside_stays(make_fence: MakeFence, helper: Helper, enter: Enter) -> None:
    """Removal of a fence that is not empty fails in time, and the fence still works."""
    fence = make_fence(64 * MIB)
    enter(helper, fence)
    with pytest.raises(FenceError, match="could not be removed"):
        fence.remove(timeout_s=0.05)
    assert fence.pids() == (helper.pid,)
    assert fence.read().used_bytes > 0


def test_cgroups_that_a_job_made_are_removed_too(make_fence: MakeFence) -> None:
    """What is below the fence goes with it."""
    fence = make_fence(64 * MIB)
    Path(fence.path, "own", "deeper").mkdir(parents=True)
    assert fence.pids() == ()
    assert fence.read().oom_kills == 0
    fence.remove()
    assert not os.path.exists(fence.path)


def test_nobody_empties_the_fence_around_itself(make_fence: MakeFence, helper: Helper, enter: Enter) -> None:
    """kill_all from inside is refused, not suicide."""
    fence = make_fence(128 * MIB)
    enter(helper, fence)
    code = "try:\n    fence.kill_all()\nexcept OSError as error:\n    answer = str(error)"
    assert "holds the process" in helper.do(code)


def test_a_fence_that_is_gone_says_so(make_fence: MakeFence) -> None:
    """Reading a removed fence is an OSError that names it, and it crosses processes."""
    fence = make_fence(64 * MIB)
    os.rmdir(fence.path)
    with pytest.raises(FenceError, match="could not be read") as caught:
        fence.read()
    assert fence.pids() == ()
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.path) == (str(caught.value), fence.path)


@pytest.mark.requirement("R1.4")
def test_no_descriptor_is_left(make_fence: MakeFence) -> None:
    """A fence holds descriptors while it exists and none afterwards."""
    before = len(os.listdir("/proc/self/fd"))
    with make_fence(64 * MIB) as fence:
        assert fence.read().limit_hits == 0
        assert len(os.listdir("/proc/self/fd")) > before
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("limit", [0, -1])
def test_a_fence_without_room_is_refused(limit: int) -> None:
    """A limit of nothing is an error of the caller, not a fence."""
    with pytest.raises(ValueError, match="needs room"):
        open_fence("test", limit)


OPEN_AND_FILL = """
from memguard.host import open_fence
fence = open_fence('orphaned', 64 * MIB)
answer = fence.path
"""


def orphan_fence(helper: Helper) -> tuple[str, int]:
    """Let a helper open a fence with a process in it, and kill the helper."""
    path = helper.do(OPEN_AND_FILL)
    inmate = helper.fork("fence.enter()\nready()\nsignal.pause()")
    helper.process.kill()
    helper.process.wait()
    return path, inmate


@pytest.mark.requirement("R1.4")
def test_a_fence_whose_owner_was_killed_is_swept(make_fence: MakeFence, helper: Helper) -> None:
    """After kill -9 of the owner, a sweep kills who is inside and removes the cgroup."""
    path, inmate = orphan_fence(helper)
    handle = os.pidfd_open(inmate)
    try:
        sweep_stale_fences()
        assert not os.path.exists(path)
        # A pidfd is readable once its process has ended, whether or not somebody has reaped it.
        assert select.select([handle], [], [], 10)[0]
    finally:
        os.close(handle)
    assert path not in find_stale_fences()


def test_a_fence_of_a_living_owner_is_left_alone(make_fence: MakeFence, helper: Helper, enter: Enter) -> None:
    """A sweep by somebody else neither removes nor empties it."""
    fence = make_fence(128 * MIB)
    enter(helper, fence)
    other = helper.do("from memguard.host import sweep_stale_fences; answer = list(sweep_stale_fences())")
    assert fence.path not in other
    assert fence.path not in sweep_stale_fences()
    assert fence.pids() == (helper.pid,)


def test_foreign_cgroups_are_left_alone(make_fence: MakeFence) -> None:
    """Names of another form, and owners in another pid namespace, are nobody's business."""
    fence = make_fence(64 * MIB)
    owner = parse_fence_name(fence.path)
    assert owner is not None
    foreign = [
        f"{fence.path}/somebody-1-2-3",
        f"{fence.path}/memguard-x-{2**22 - 1}-1",
        f"{fence.path}/memguard-x-{2**22 - 1}-1-{owner.pid_namespace + 1}",
    ]
    stale = f"{fence.path}/memguard-x-{2**22 - 1}-1-{owner.pid_namespace}"
    for path in (*foreign, stale):
        os.mkdir(path)
    assert stale in find_stale_fences()
    sweep_stale_fences()
    assert not os.path.exists(stale)
    assert [path for path in foreign if os.path.isdir(path)] == foreign


def test_a_sweep_never_kills_the_sweeper(make_fence: MakeFence, helpers: Helpers, enter: Enter) -> None:
    """A job that outlived its guard may run memguard: the fence around it is left to others."""
    owner, job = helpers(), helpers()
    path = owner.do(OPEN_AND_FILL)
    job.do(f"from memguard.host.fence import Fence; Fence({path!r}, {make_fence(MIB).kind!r}, 1).enter()")
    owner.end()
    swept = job.do("from memguard.host import sweep_stale_fences; answer = list(sweep_stale_fences())")
    assert path not in swept
    assert os.path.isdir(path)
    sweep_stale_fences()
    assert job.process.wait() == -signal.SIGKILL


def test_fence_names_tell_the_owner(make_fence: MakeFence) -> None:
    """The directory of a fence carries the identity of the process that made it."""
    owner = parse_fence_name(make_fence(64 * MIB, "a job/with blanks").path)
    me = identify()
    assert owner is not None
    assert (owner.pid, owner.start_ticks) == (me.pid, me.start_ticks)


def test_who_may_not_make_fences_gets_none(make_fence: MakeFence, nobody: Helper) -> None:
    """A user without rights to the cgroup gets no fence and a reason, and sweeps nobody else's."""
    fence = make_fence(64 * MIB)
    stale = f"{fence.path}/memguard-x-{2**22 - 1}-1-{parse_fence_name(fence.path).pid_namespace}"  # type: ignore[union-attr]
    os.mkdir(stale)
    answer = nobody.do(
        "from memguard.host import open_fence, sweep_stale_fences\n"
        "from memguard.host.fence_place import choose_place\n"
        "answer = [open_fence('test', MIB) is None, choose_place().reason, list(sweep_stale_fences())]"
    )
    assert answer[0] is True
    assert "not writable" in answer[1]
    assert stale not in answer[2]
    assert os.path.isdir(stale)
