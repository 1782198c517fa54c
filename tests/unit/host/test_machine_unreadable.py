"""A machine that cannot be read whole is told of, and errs to the safe side."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import RecordedMachine
from tests.support.machines import GIB, V1, V2, read, sources


def test_a_removed_cgroup_bounds_nothing(recorded: RecordedMachine) -> None:
    """Files that vanished between finding the cgroup and reading it are no error and no note."""
    recorded.cgroups("4:memory:/gone/too\n0::/gone\n")
    recorded.mount(V1)
    recorded.mount("/sys/fs/cgroup/unified", "cgroup2", "rw")
    reading = read(recorded)
    assert sources(reading) == [("physical", 16 * GIB)]
    assert reading.notes == ()


def test_an_unreadable_limit_is_noted(recorded: RecordedMachine) -> None:
    """A limit that cannot be read is left out, and the reading says so."""
    recorded.cgroups("0::/own\n")
    recorded.mount(V2, "cgroup2", "rw")
    recorded.group_v2(f"{V2}/own", limit=GIB)
    recorded.make_unreadable(f"{V2}/own/memory.max")
    reading = read(recorded)
    assert reading.capacity_bytes == 16 * GIB
    assert len(reading.notes) == 1
    assert "own/memory.max could not be read" in reading.notes[0]


def test_an_unreadable_use_errs_to_the_safe_side(recorded: RecordedMachine) -> None:
    """Where a limit is known but its use is not, the whole machine's use stands in for it."""
    recorded.cgroups("0::/own\n")
    recorded.mount(V2, "cgroup2", "rw")
    recorded.group_v2(f"{V2}/own", limit=8 * GIB)
    recorded.make_unreadable(f"{V2}/own/memory.current")
    reading = read(recorded)
    assert reading.used_bytes == 4 * GIB
    assert "memory.current" in reading.notes[0]


def test_an_unreadable_stat_counts_all_as_used(recorded: RecordedMachine) -> None:
    """Without memory.stat nothing can be called reclaimable."""
    recorded.cgroups("0::/own\n")
    recorded.mount(V2, "cgroup2", "rw")
    recorded.group_v2(f"{V2}/own", limit=8 * GIB, usage=7 * GIB, stat={"inactive_file": 6 * GIB})
    recorded.make_unreadable(f"{V2}/own/memory.stat")
    reading = read(recorded)
    assert reading.used_bytes == 7 * GIB
    assert "file cache counts as used" in reading.notes[0]


def test_a_limit_that_is_no_number_is_noted(recorded: RecordedMachine) -> None:
    """Content that no kernel writes is reported, not believed and not fatal."""
    recorded.cgroups("0::/own\n")
    recorded.mount(V2, "cgroup2", "rw")
    recorded.group_v2(f"{V2}/own", limit="plenty")
    assert "own/memory.max could not be read" in read(recorded).notes[0]


def test_missing_meminfo_is_replaced_and_noted(recorded: RecordedMachine) -> None:
    """Physical memory then comes from psutil, and the reading says so."""
    (recorded.root / "proc/meminfo").unlink()
    reading = read(recorded)
    assert reading.capacity_bytes > 0
    assert "psutil" in reading.notes[0]


def test_missing_cgroup_files_are_noted(recorded: RecordedMachine) -> None:
    """A /proc without cgroup files leaves physical memory, and a note."""
    (recorded.root / "proc/self/cgroup").unlink()
    reading = read(recorded)
    assert sources(reading) == [("physical", 16 * GIB)]
    assert "cgroups could not be found" in reading.notes[0]
