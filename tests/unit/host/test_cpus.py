"""How many processors recorded machines give: masks, quotas of both versions, nesting, gaps."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from memguard.host import allowed_cpus, usable_cpus

if TYPE_CHECKING:
    from conftest import RecordedMachine

V1 = "/sys/fs/cgroup/cpu"
V2 = "/sys/fs/cgroup"


def quota_v1(recorded: RecordedMachine, path: str, quota_us: int | str, period_us: int = 100_000) -> None:
    recorded.write(f"{path}/cpu.cfs_quota_us", f"{quota_us}\n")
    recorded.write(f"{path}/cpu.cfs_period_us", f"{period_us}\n")


def in_v1(recorded: RecordedMachine, path: str) -> None:
    recorded.cgroups(f"4:memory:/elsewhere\n2:cpu,cpuacct:{path}\n0::/\n")
    recorded.mount(V1, options="rw,cpu,cpuacct")


def in_v2(recorded: RecordedMachine, path: str) -> None:
    recorded.cgroups(f"0::{path}\n")
    recorded.mount(V2, kind="cgroup2", options="rw")


def usable(recorded: RecordedMachine, allowed: int = 64) -> int:
    return usable_cpus(root=recorded.root, allowed=allowed)


def test_the_mask_binds_where_no_quota_does(recorded: RecordedMachine) -> None:
    """Without a cgroup, or with cgroups that set nothing, it is what the scheduler's mask allows."""
    assert usable(recorded) == 64
    in_v2(recorded, "/job")
    recorded.write(f"{V2}/job/cpu.max", "max 100000\n")
    assert usable(recorded) == 64


def test_the_smallest_v1_quota_up_to_the_root_binds(recorded: RecordedMachine) -> None:
    """A container's quota counts, as does that of the pod around it; -1 is none."""
    in_v1(recorded, "/pod/job")
    quota_v1(recorded, f"{V1}/pod", 400_000)
    quota_v1(recorded, f"{V1}/pod/job", -1)
    assert usable(recorded) == 4
    quota_v1(recorded, f"{V1}/pod/job", 100_000, 50_000)
    assert usable(recorded) == 2
    assert usable(recorded, allowed=1) == 1


def test_the_smallest_v2_quota_up_to_the_root_binds(recorded: RecordedMachine) -> None:
    """The same in the unified hierarchy, whose root has no such file; parts of a processor count as one."""
    in_v2(recorded, "/pod/job")
    recorded.write(f"{V2}/pod/cpu.max", "350000 100000\n")
    assert usable(recorded) == 4
    recorded.write(f"{V2}/pod/job/cpu.max", "1000 100000\n")
    assert usable(recorded) == 1


def test_hybrid_machines_use_the_hierarchy_that_controls_processors(recorded: RecordedMachine) -> None:
    """Where v2 is mounted for names only, the quota of v1 counts; the path of another controller does not."""
    in_v1(recorded, "/job")
    recorded.mount("/sys/fs/cgroup/unified", kind="cgroup2", options="rw")
    quota_v1(recorded, f"{V1}/job", 200_000)
    quota_v1(recorded, f"{V1}/elsewhere", 100_000)
    assert usable(recorded) == 2


@pytest.mark.parametrize("text", ["", "nonsense", "many 100000", "100000 0"])
def test_a_quota_that_cannot_be_read_binds_nothing(recorded: RecordedMachine, text: str) -> None:
    """Another form, an unreadable file or no list of cgroups at all: the mask is left, nothing is raised."""
    in_v2(recorded, "/job")
    recorded.write(f"{V2}/job/cpu.max", text)
    assert usable(recorded) == 64
    recorded.make_unreadable(f"{V2}/job/cpu.max")
    assert usable(recorded) == 64
    recorded.make_unreadable("/proc/self/cgroup")
    assert usable(recorded) == 64


def test_this_machine_is_read() -> None:
    """Here there is at least one, and no more than the mask allows."""
    assert 1 <= usable_cpus() <= allowed_cpus() <= (os.cpu_count() or 1)
