"""Looking at the machine a hundred times a second: files that stay open, limits that change, groups that go."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from memguard.host.watcher import KernelFile, MachineWatcher
from tests.support.machines import check_watcher_agrees, read

if TYPE_CHECKING:
    from conftest import RecordedMachine

GIB = 1024**3
V1 = "/sys/fs/cgroup/memory"


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def caged(recorded: RecordedMachine) -> RecordedMachine:
    """A machine on which this process is in a cgroup with a limit, in one with a larger one."""
    recorded.cgroups("4:memory:/outer/own\n")
    recorded.mount(V1)
    recorded.group_v1(V1)
    recorded.group_v1(f"{V1}/outer", limit=4 * GIB, usage=GIB)
    recorded.group_v1(f"{V1}/outer/own", limit=2 * GIB, usage=GIB, stat={"total_inactive_file": GIB // 2})
    return recorded


@pytest.mark.requirement("R6.3", "T5.3")
def test_a_limit_that_is_lowered_is_seen_at_the_next_look(caged: RecordedMachine) -> None:
    """Limits and use are read anew each time, also a limit where there was none."""
    with MachineWatcher(root=caged.root) as watcher:
        assert watcher.look().capacity_bytes == 2 * GIB
        assert watcher.look().available_bytes == 3 * GIB // 2
        caged.write(f"{V1}/outer/own/memory.limit_in_bytes", f"{GIB}\n")
        assert watcher.look().available_bytes == GIB // 2
        caged.write(f"{V1}/memory.limit_in_bytes", f"{GIB // 2}\n")
        assert watcher.look().capacity_bytes == GIB // 2


def test_a_glance_tells_whether_a_look_is_worth_it(caged: RecordedMachine) -> None:
    """More or less use, another limit, a group that is gone: all of it is worth a look."""
    with MachineWatcher(root=caged.root) as watcher:
        assert watcher.has_moved(GIB // 50)
        watcher.look()
        assert not watcher.has_moved(GIB // 50)
        caged.write(f"{V1}/outer/memory.usage_in_bytes", f"{GIB + GIB // 10}\n")
        assert watcher.has_moved(GIB // 50)
        assert not watcher.has_moved(GIB // 5)
        watcher.look()
        assert not watcher.has_moved(GIB // 50)
        caged.write(f"{V1}/outer/own/memory.limit_in_bytes", f"{GIB}\n")
        assert watcher.has_moved(GIB // 50)
        watcher.look()
        caged.meminfo(16384, 12000)
        assert watcher.has_moved(GIB // 50)
        watcher.look()
        caged.write(f"{V1}/outer/own/memory.usage_in_bytes", "nonsense\n")
        assert watcher.has_moved(GIB // 50)


def test_a_scope_leaves_out_what_is_below_it(caged: RecordedMachine) -> None:
    """Who watches for a cgroup counts its limit and those around it, and for the machine none of a cgroup."""
    base = str(caged.root)
    with MachineWatcher(root=caged.root, scope=f"{base}{V1}/outer") as watcher:
        assert watcher.look().capacity_bytes == 4 * GIB
    with MachineWatcher(root=caged.root, scope="") as watcher:
        assert watcher.look().capacity_bytes == 16 * GIB


def test_a_group_that_goes_is_no_error(caged: RecordedMachine) -> None:
    """Where a file cannot be read any more the slow way answers, and nothing stays open."""
    before = open_files()
    watcher = MachineWatcher(root=caged.root)
    assert watcher.look().capacity_bytes == 2 * GIB
    assert open_files() > before
    caged.write(f"{V1}/outer/own/memory.limit_in_bytes", "nonsense\n")
    shutil.rmtree(f"{caged.root}{V1}/outer/own")
    assert watcher.look().capacity_bytes == 4 * GIB
    assert open_files() == before
    check_watcher_agrees(caged, read(caged))
    watcher.close()
    assert open_files() == before


def test_it_agrees_with_the_slow_way_on_this_machine() -> None:
    """On the real machine, capacity and limits are the same, whatever kinds of cgroups it has."""
    from memguard.host import read_machine

    with MachineWatcher() as watcher:
        seen, told = watcher.look(), read_machine()
    assert [(each.source, each.path, each.limit_bytes) for each in seen.limits] == [
        (each.source, each.path, each.limit_bytes) for each in told.limits
    ]


def test_a_file_is_read_from_its_beginning_each_time(recorded: RecordedMachine) -> None:
    """A shorter content leaves nothing of a longer one behind."""
    path = recorded.write("/file", "12345\n")
    opened = KernelFile(str(path))
    assert opened.read() == b"12345\n"
    path.write_text("6\n")
    assert opened.read() == b"6\n"
    opened.close()
    opened.close()
    with pytest.raises(OSError, match="Bad file"):
        opened.read()
