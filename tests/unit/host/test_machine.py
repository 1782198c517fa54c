"""Which limit of a machine binds, and what is used of it: recorded machines of all kinds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memguard.errors import ConfigError
from memguard.host import read_machine
from memguard.host.cgroups import parse_mountinfo
from memguard.host.machine import parse_pressure

if TYPE_CHECKING:
    from conftest import RecordedMachine
from tests.support.machines import GIB, MIB, V1, V2, read, sources


def test_physical_memory_binds_where_nothing_else_does(recorded: RecordedMachine) -> None:
    """Without cgroups the machine's own memory is the capacity, and MemAvailable tells what is used."""
    reading = read(recorded)
    assert reading.capacity_bytes == 16 * GIB
    assert reading.used_bytes == 4 * GIB
    assert reading.available_bytes == 12 * GIB
    assert reading.binding.source == "physical"
    assert reading.notes == ()
    assert reading.used_fraction == 0.25


def test_old_kernels_without_memavailable(recorded: RecordedMachine) -> None:
    """Where MemAvailable is missing, free pages and clean file pages are what is available."""
    recorded.meminfo(16384, None, **{"Active(file)": 1000, "Inactive(file)": 2000, "Dirty": 500})
    assert read(recorded).available_bytes == (1024 + 2500) * MIB


def test_the_smallest_v1_limit_up_to_the_root_binds(recorded: RecordedMachine) -> None:
    """A limit set on a grandparent binds although parent and own cgroup set none or larger ones."""
    recorded.cgroups("9:name=systemd:/\n4:cpu,memory:/outer/middle/own\n0::/\n")
    recorded.mount(V1)
    recorded.group_v1(V1)
    recorded.group_v1(f"{V1}/outer", limit=2 * GIB, usage=GIB)
    recorded.group_v1(f"{V1}/outer/middle")
    recorded.group_v1(f"{V1}/outer/middle/own", limit=8 * GIB, usage=512 * MIB)
    reading = read(recorded)
    assert reading.binding.path.endswith("/outer/memory.limit_in_bytes")
    assert (reading.capacity_bytes, reading.used_bytes) == (2 * GIB, GIB)
    assert sources(reading) == [("physical", 16 * GIB), ("cgroup-v1", 2 * GIB), ("cgroup-v1", 8 * GIB)]


def test_the_smallest_v2_limit_up_to_the_root_binds(recorded: RecordedMachine) -> None:
    """``max`` is no limit, the root cgroup has no such file, and the parent's limit holds for the child."""
    recorded.cgroups("0::/user.slice/job.scope\n")
    recorded.mount(V2, "cgroup2", "rw,nsdelegate")
    recorded.write(f"{V2}/cgroup.procs", "")
    recorded.group_v2(f"{V2}/user.slice", limit=3 * GIB, usage=GIB)
    recorded.group_v2(f"{V2}/user.slice/job.scope", limit="max", usage=GIB)
    reading = read(recorded)
    assert reading.binding.source == "cgroup-v2"
    assert reading.binding.path.endswith("user.slice/memory.max")
    assert reading.capacity_bytes == 3 * GIB
    assert reading.notes == ()


def test_the_least_free_bound_says_what_is_available(recorded: RecordedMachine) -> None:
    """A large but full parent leaves less than the smaller limit below it has free."""
    recorded.cgroups("0::/a/b\n")
    recorded.mount(V2, "cgroup2", "rw")
    recorded.group_v2(f"{V2}/a", limit=8 * GIB, usage=8 * GIB - 100 * MIB)
    recorded.group_v2(f"{V2}/a/b", limit=2 * GIB, usage=GIB)
    reading = read(recorded)
    assert reading.capacity_bytes == 2 * GIB
    assert reading.available_bytes == 100 * MIB


def test_v1_counts_what_cannot_be_dropped_at_once(recorded: RecordedMachine) -> None:
    """Clean file pages are free; anonymous, tmpfs, mlocked, dirty and kernel pages are used."""
    recorded.cgroups("4:memory:/own\n")
    recorded.mount(V1)
    stat = {
        "cache": 1,
        "total_cache": 900 * MIB,
        "total_rss": 200 * MIB,
        "total_shmem": 100 * MIB,
        "total_dirty": 30 * MIB,
        "total_writeback": 20 * MIB,
        "total_inactive_file": 500 * MIB,
        "total_active_file": 250 * MIB,
        "total_unevictable": 50 * MIB,
    }
    recorded.group_v1(f"{V1}/own", limit=2 * GIB, usage=1200 * MIB, stat=stat)
    assert read(recorded).used_bytes == (1200 - 750 + 30 + 20) * MIB


def test_v2_counts_what_cannot_be_dropped_at_once(recorded: RecordedMachine) -> None:
    """As in v1; reclaimable slab, which v2 tells apart, is free as well."""
    recorded.cgroups("0::/own\n")
    recorded.mount(V2, "cgroup2", "rw")
    stat = {
        "anon": 200 * MIB,
        "file": 900 * MIB,
        "shmem": 100 * MIB,
        "file_dirty": 30 * MIB,
        "file_writeback": 20 * MIB,
        "inactive_file": 500 * MIB,
        "active_file": 250 * MIB,
        "slab_reclaimable": 40 * MIB,
    }
    recorded.group_v2(f"{V2}/own", limit=2 * GIB, usage=1200 * MIB, stat=stat)
    assert read(recorded).used_bytes == (1200 - 750 + 30 + 20 - 40) * MIB


def test_hybrid_machines_use_the_hierarchy_that_controls_memory(recorded: RecordedMachine) -> None:
    """With v2 mounted but memory under v1, the v1 limit binds and v2 adds no bound and no note."""
    recorded.cgroups("4:memory:/own\n0::/own\n")
    recorded.mount(V1)
    recorded.mount("/sys/fs/cgroup/unified", "cgroup2", "rw")
    recorded.group_v1(f"{V1}/own", limit=GIB)
    recorded.write("/sys/fs/cgroup/unified/own/cgroup.procs", "")
    reading = read(recorded)
    assert sources(reading) == [("physical", 16 * GIB), ("cgroup-v1", GIB)]
    assert reading.notes == ()


@pytest.mark.parametrize("unlimited", [9223372036854771712, 9223372036854775807, 2**64 - 1])
def test_the_v1_word_for_no_limit_is_none(recorded: RecordedMachine, unlimited: int) -> None:
    """v1 writes "no limit" as a huge number, which differs between kernels."""
    recorded.cgroups("4:memory:/own\n")
    recorded.mount(V1)
    recorded.group_v1(f"{V1}/own", limit=unlimited)
    assert sources(read(recorded)) == [("physical", 16 * GIB)]


def test_v1_ancestors_without_hierarchy_do_not_bind(recorded: RecordedMachine) -> None:
    """Before Linux 5.11 a parent with use_hierarchy 0 does not bound its children."""
    recorded.cgroups("4:memory:/outer/own\n")
    recorded.mount(V1)
    recorded.group_v1(f"{V1}/outer", limit=GIB)
    recorded.group_v1(f"{V1}/outer/own", limit=2 * GIB)
    recorded.write(f"{V1}/outer/memory.use_hierarchy", "0\n")
    assert sources(read(recorded)) == [("physical", 16 * GIB), ("cgroup-v1", 2 * GIB)]


def test_a_hidden_v1_ancestor_binds_through_memory_stat(recorded: RecordedMachine) -> None:
    """In a container the pod's limit is not visible as a file, but memory.stat tells the smallest of all."""
    recorded.cgroups("4:memory:/pod/box\n")
    recorded.mount(V1, root="/pod/box")
    stat = {"hierarchical_memory_limit": GIB, "total_inactive_file": 100 * MIB}
    recorded.group_v1(V1, limit=4 * GIB, usage=600 * MIB, stat=stat)
    reading = read(recorded)
    assert (reading.capacity_bytes, reading.used_bytes) == (GIB, 500 * MIB)
    assert "hierarchical_memory_limit" in reading.binding.path


@pytest.mark.parametrize(
    ("own", "mount_root", "where"),
    [
        ("/", "/", ""),
        ("/docker/abc", "/docker/abc", ""),
        ("/docker/abc/inner", "/docker/abc", "/inner"),
        ("/../../a/b", "/../..", "/a/b"),
        ("/kube/pod", "/", "/kube/pod"),
    ],
)
def test_namespaces_show_other_roots(
    recorded: RecordedMachine, own: str, mount_root: str, where: str
) -> None:
    """The own cgroup is found below the mount whatever part of the hierarchy is mounted there."""
    recorded.cgroups(f"0::{own}\n")
    recorded.mount(V2, "cgroup2", "rw", root=mount_root)
    recorded.group_v2(f"{V2}{where}", limit=GIB)
    reading = read(recorded)
    assert reading.capacity_bytes == GIB
    assert reading.notes == ()


def test_a_cgroup_outside_of_the_mount_is_noted(recorded: RecordedMachine) -> None:
    """A process moved out of its namespace is not bound by what is mounted, and that is said."""
    recorded.cgroups("0::/../sibling\n")
    recorded.mount(V2, "cgroup2", "rw")
    recorded.group_v2(V2, limit=GIB)
    reading = read(recorded)
    assert reading.capacity_bytes == 16 * GIB
    assert "outside of what" in reading.notes[0]


def test_a_mount_older_than_the_namespace_binds_at_its_root(recorded: RecordedMachine) -> None:
    """The way down to the own cgroup has hidden names; the mount's root is an ancestor all the same."""
    recorded.cgroups("0::/\n")
    recorded.mount(V2, "cgroup2", "rw", root="/..")
    recorded.group_v2(V2, limit=GIB)
    reading = read(recorded)
    assert reading.capacity_bytes == GIB
    assert "hidden" in reading.notes[0]


def test_the_list_of_processes_decides_where_paths_do_not(recorded: RecordedMachine) -> None:
    """A path that does not fit the mount is the mount's root if that lists this process."""
    recorded.cgroups("4:memory:/elsewhere\n")
    recorded.mount(V1, root="/docker/abc")
    recorded.group_v1(V1, limit=GIB)
    assert read(recorded).capacity_bytes == 16 * GIB
    recorded.write(f"{V1}/cgroup.procs", f"1\n{os.getpid()}\n")
    assert read(recorded).capacity_bytes == GIB


def test_names_with_blanks_are_unescaped(recorded: RecordedMachine) -> None:
    """A mount point's blanks and backslashes, which the kernel writes in octal, are read back."""
    recorded.cgroups("0::/a b/own\n")
    recorded.mount("/mnt/c\\040g\\134x", "cgroup2", "rw", root="/a\\040b")
    recorded.group_v2("/mnt/c g\\x/own", limit=GIB)
    assert read(recorded).capacity_bytes == GIB


def test_a_later_mount_hides_an_earlier_one(recorded: RecordedMachine) -> None:
    """Of two mounts on one point only the last can be seen."""
    recorded.cgroups("0::/own\n")
    recorded.mount(V2, "cgroup2", "rw", root="/own")
    recorded.mount(V2, "cgroup2", "rw")
    recorded.group_v2(V2, limit=GIB)
    recorded.group_v2(f"{V2}/own", limit=2 * GIB)
    assert sources(read(recorded)) == [("physical", 16 * GIB), ("cgroup-v2", GIB), ("cgroup-v2", 2 * GIB)]


def test_the_mount_that_shows_most_is_taken(recorded: RecordedMachine) -> None:
    """Where a hierarchy is mounted twice, the one that reaches higher up is read."""
    recorded.cgroups("0::/pod/own\n")
    recorded.mount("/part", "cgroup2", "rw", root="/pod/own")
    recorded.mount("/whole", "cgroup2", "rw")
    recorded.group_v2("/part", limit="max")
    recorded.group_v2("/whole/pod", limit=GIB)
    recorded.group_v2("/whole/pod/own", limit="max")
    assert read(recorded).capacity_bytes == GIB


def test_other_v1_controllers_are_not_asked(recorded: RecordedMachine) -> None:
    """A hierarchy whose controllers only begin like memory, or name it as a label, is another one."""
    recorded.cgroups("4:cpuset:/own\n5:name=memory:/own\n")
    recorded.mount("/sys/fs/cgroup/cpuset", options="rw,cpuset")
    recorded.group_v1("/sys/fs/cgroup/cpuset/own", limit=GIB)
    assert sources(read(recorded)) == [("physical", 16 * GIB)]


def test_a_share_given_to_guarded_jobs_binds(recorded: RecordedMachine) -> None:
    """Inside MEMGUARD_CAPACITY only what guarded jobs use counts; the machine's own bounds hold on top."""
    reading = read(recorded, capacity_bytes=2 * GIB, guarded_used_bytes=GIB // 2)
    assert reading.binding.source == "MEMGUARD_CAPACITY"
    assert (reading.capacity_bytes, reading.used_bytes) == (2 * GIB, GIB // 2)
    assert reading.available_bytes == 2 * GIB - GIB // 2
    recorded.meminfo(total_mib=16384, available_mib=100)
    assert read(recorded, capacity_bytes=2 * GIB).available_bytes == 100 * MIB


def test_a_share_larger_than_the_machine_does_not_bind(recorded: RecordedMachine) -> None:
    """Nobody can give away more than there is."""
    assert read(recorded, capacity_bytes=64 * GIB).binding.source == "physical"


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_share_of_nothing_is_refused(recorded: RecordedMachine, capacity: int) -> None:
    """A capacity that leaves no room is an error, not a machine that is full for ever."""
    with pytest.raises(ConfigError, match="no room"):
        read(recorded, capacity_bytes=capacity)


def test_limits_are_read_anew(recorded: RecordedMachine) -> None:
    """A limit that is changed in place is seen by the next reading."""
    recorded.cgroups("0::/own\n")
    recorded.mount(V2, "cgroup2", "rw")
    recorded.group_v2(f"{V2}/own", limit=4 * GIB)
    assert read(recorded).capacity_bytes == 4 * GIB
    recorded.write(f"{V2}/own/memory.max", f"{GIB}\n")
    assert read(recorded).capacity_bytes == GIB


def test_swap_and_pressure_are_told_beside(recorded: RecordedMachine) -> None:
    """Free swap is not part of what is available, and pressure is told where the kernel has it."""
    recorded.meminfo(16384, 12288, SwapTotal=2048, SwapFree=1024)
    assert read(recorded).pressure is None
    recorded.write("/proc/pressure/memory", "some avg10=1.50 avg60=0 total=9\nfull avg10=0.25 total=3\n")
    reading = read(recorded)
    assert reading.swap_free_bytes == GIB
    assert reading.available_bytes == 12 * GIB
    assert reading.pressure is not None
    assert (reading.pressure.some_avg10, reading.pressure.full_avg10) == (1.5, 0.25)


@pytest.mark.parametrize("text", [b"", b"full avg10=1\n", b"some total=3\n"])
def test_other_texts_are_no_pressure(text: bytes) -> None:
    """A file without the average over ten seconds is refused."""
    with pytest.raises(ValueError, match="pressure"):
        parse_pressure(text)


def test_an_unreadable_pressure_file_is_no_pressure(recorded: RecordedMachine) -> None:
    """Kernels with pressure switched off have the file and refuse to read it."""
    recorded.write("/proc/pressure/memory", "")
    recorded.make_unreadable("/proc/pressure/memory")
    assert read(recorded).pressure is None


@example(name="a\u2028b\x85c")
@given(name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/"), min_size=1))
def test_any_mount_name_survives(name: str) -> None:
    """What the kernel escapes is read back as it was."""
    escaped = "".join(f"\\{ord(char):03o}" if char in " \t\n\\" else char for char in name)
    (mount,) = parse_mountinfo(f"1 2 0:3 /{escaped} /mnt/{escaped} rw - tmpfs none rw\n")
    assert mount.root == f"/{name}"
    assert mount.mount_point == f"/mnt/{name}"


def test_lines_of_another_form_are_left_out() -> None:
    """A mountinfo of a later kernel with lines that are too short is not a crash."""
    assert parse_mountinfo("\n1 2 0:3 /\n1 2 0:3 / /x rw\n1 2 0:3 / /x rw - tmpfs\n") == ()


def test_this_machine_is_read_whole(tmp_path: Path) -> None:
    """The real machine gives a positive capacity, use within it, and no note."""
    reading = read_machine()
    assert 0 < reading.capacity_bytes <= reading.limits[0].limit_bytes
    assert 0 <= reading.available_bytes <= reading.capacity_bytes
    assert reading.limits[0].source == "physical"
    assert reading.notes == ()
