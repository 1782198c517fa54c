"""Where fences may be made, on recorded machines, and what a v2 fence consists of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.host import identify
from memguard.host.fence import FenceError, create_fence
from memguard.host.fence_names import fence_name, parse_fence_name
from memguard.host.fence_place import FencePlace, NoPlace, choose_place
from memguard.host.identity import pid_namespace

if TYPE_CHECKING:
    from conftest import RecordedMachine

MIB = 1024**2
V1 = "/sys/fs/cgroup/memory"
V2 = "/sys/fs/cgroup"


def place_of(recorded: RecordedMachine) -> FencePlace:
    place = choose_place(str(recorded.root))
    assert isinstance(place, FencePlace), place
    return FencePlace(place.kind, place.directory.removeprefix(str(recorded.root)))


def reason_of(recorded: RecordedMachine) -> str:
    place = choose_place(str(recorded.root))
    assert isinstance(place, NoPlace), place
    return place.reason


def delegated(recorded: RecordedMachine) -> None:
    """Record a user session whose manager hands the memory controller to slices below it."""
    recorded.cgroups("0::/user.slice/app.slice/run.scope\n")
    recorded.mount(V2, "cgroup2", "rw")
    for path in (
        V2,
        f"{V2}/user.slice",
        f"{V2}/user.slice/app.slice",
        f"{V2}/user.slice/app.slice/run.scope",
    ):
        recorded.group_v2(path)
    recorded.write(f"{V2}/user.slice/app.slice/cgroup.subtree_control", "cpu memory pids\n")
    recorded.write(f"{V2}/user.slice/cgroup.subtree_control", "memory\n")


def test_v1_fences_are_children_of_the_own_cgroup(recorded: RecordedMachine) -> None:
    """Below the own cgroup a fence can escape none of the limits that hold for this process."""
    recorded.cgroups("4:memory:/outer/own\n")
    recorded.mount(V1)
    recorded.group_v1(f"{V1}/outer/own")
    assert place_of(recorded) == FencePlace("cgroup-v1", f"{V1}/outer/own")


def test_v2_fences_are_children_of_the_nearest_that_hands_on_memory(recorded: RecordedMachine) -> None:
    """The own cgroup holds processes and cannot; its parent's children may have limits."""
    delegated(recorded)
    assert place_of(recorded) == FencePlace("cgroup-v2", f"{V2}/user.slice/app.slice")


def test_v2_is_preferred_where_both_could(recorded: RecordedMachine) -> None:
    """v2 comes before v1 when both control memory somewhere."""
    delegated(recorded)
    recorded.cgroups("4:memory:/own\n0::/user.slice/app.slice/run.scope\n")
    recorded.mount("/v1")
    recorded.group_v1("/v1/own")
    assert place_of(recorded).kind == "cgroup-v2"


def test_v1_is_used_where_v2_has_no_memory_controller(recorded: RecordedMachine) -> None:
    """A hybrid machine's empty v2 hierarchy is passed over."""
    recorded.cgroups("4:memory:/own\n0::/\n")
    recorded.mount(V1)
    recorded.group_v1(f"{V1}/own")
    recorded.mount("/sys/fs/cgroup/unified", "cgroup2", "rw")
    recorded.write("/sys/fs/cgroup/unified/cgroup.subtree_control", "\n")
    assert place_of(recorded).kind == "cgroup-v1"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("memory.max", "1073741824"),
        ("memory.high", "1073741824"),
        ("memory.swap.max", "0"),
        ("pids.max", "100"),
        ("cpu.max", "50000 100000"),
    ],
)
def test_a_v2_fence_never_escapes_a_limit(recorded: RecordedMachine, name: str, content: str) -> None:
    """Where the own cgroup has a limit, a fence beside it would be free of that, so there is none."""
    delegated(recorded)
    recorded.write(f"{V2}/user.slice/app.slice/run.scope/cpu.max", "max 100000\n")
    assert place_of(recorded).kind == "cgroup-v2"
    recorded.write(f"{V2}/user.slice/app.slice/run.scope/{name}", f"{content}\n")
    assert f"would escape its {name} ({content})" in reason_of(recorded)


def test_a_limit_above_the_fence_hinders_nothing(recorded: RecordedMachine) -> None:
    """A limit on the fence's parent holds for the fence as for this process."""
    delegated(recorded)
    recorded.write(f"{V2}/user.slice/app.slice/memory.max", f"{MIB}\n")
    assert place_of(recorded).directory.endswith("app.slice")


def test_the_reason_names_what_is_missing(recorded: RecordedMachine) -> None:
    """Each way to have no fence has its own sentence."""
    assert "no cgroup hierarchy" in reason_of(recorded)
    recorded.mount(V2, "cgroup2", "rw")
    recorded.cgroups("0::/own\n")
    recorded.group_v2(f"{V2}/own")
    assert "hands on the memory controller" in reason_of(recorded)
    recorded.cgroups("0::/../own\n")
    assert "outside of what" in reason_of(recorded)
    (recorded.root / "proc/self/cgroup").unlink()
    assert "no cgroups here" in reason_of(recorded)


def test_v1_without_hierarchy_fences_nothing(recorded: RecordedMachine) -> None:
    """Where the parent does not bound its children, a fence would escape the parent's limit."""
    recorded.cgroups("4:memory:/own\n")
    recorded.mount(V1)
    recorded.group_v1(f"{V1}/own")
    recorded.write(f"{V1}/own/memory.use_hierarchy", "0\n")
    assert "use_hierarchy" in reason_of(recorded)


def make_v2_cgroup(path: str) -> None:
    """Do what the kernel does at mkdir: the control files appear."""
    os.mkdir(path)
    for name in (
        "memory.max",
        "memory.swap.max",
        "memory.oom.group",
        "cgroup.subtree_control",
        "cgroup.procs",
    ):
        Path(path, name).touch()
    Path(path, "memory.current").write_text("1048576\n")
    Path(path, "memory.stat").write_text("anon 524288\nfile 262144\nkernel 65536\nshmem 131072\n")
    Path(path, "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n")
    Path(path, "memory.peak").write_text("2097152\n")


def test_a_v2_fence_bounds_memory_and_swap(tmp_path: Path) -> None:
    """It allows no swap, dies as a group, and keeps its processes one level below its limit."""
    fence = create_fence(FencePlace("cgroup-v2", str(tmp_path)), "job", 64 * MIB, make_v2_cgroup)
    directory = Path(fence.path)
    assert (directory / "memory.max").read_text() == str(64 * MIB)
    assert (directory / "memory.swap.max").read_text() == "0"
    assert (directory / "memory.oom.group").read_text() == "1"
    assert (directory / "cgroup.subtree_control").read_text() == "+memory"
    fence.enter()
    assert (directory / "job" / "cgroup.procs").read_text() == "0"
    assert (directory / "cgroup.procs").read_text() == ""
    fence.close()


def test_a_v2_fence_is_read(tmp_path: Path) -> None:
    """Used is what is charged without file cache; tmpfs pages and kernel memory stay in."""
    fence = create_fence(FencePlace("cgroup-v2", str(tmp_path)), "job", 64 * MIB, make_v2_cgroup)
    reading = fence.read()
    assert (reading.charged_bytes, reading.cache_bytes) == (1048576, 262144 - 131072)
    assert reading.used_bytes == 1048576 - (262144 - 131072)
    assert (reading.limit_bytes, reading.limit_hits, reading.oom_kills) == (64 * MIB, 7, 1)
    assert reading.high_water_bytes == 2097152
    fence.close()


def test_kernels_before_5_19_keep_no_peak(tmp_path: Path) -> None:
    """Without memory.peak the high water mark is unknown, not zero."""

    def make(path: str) -> None:
        make_v2_cgroup(path)
        os.unlink(f"{path}/memory.peak")

    fence = create_fence(FencePlace("cgroup-v2", str(tmp_path)), "job", 64 * MIB, make)
    assert fence.read().high_water_bytes is None
    fence.close()


def test_half_a_fence_is_none(tmp_path: Path) -> None:
    """A cgroup that cannot be given its limit is removed again, and no descriptor stays open."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        create_fence(FencePlace("cgroup-v1", str(tmp_path)), "job", MIB)
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_closed_fence_says_so(tmp_path: Path) -> None:
    """Use after close is an OSError that names the fence."""
    fence = create_fence(FencePlace("cgroup-v2", str(tmp_path)), "job", 64 * MIB, make_v2_cgroup)
    fence.close()
    fence.close()
    with pytest.raises(FenceError, match="could not be read") as caught:
        fence.read()
    assert caught.value.path == fence.path
    with pytest.raises(FenceError, match="could not be entered"):
        fence.enter()


def test_two_fences_of_one_name_are_two(tmp_path: Path) -> None:
    """The same owner may open fences of the same name; each has its own directory."""
    place = FencePlace("cgroup-v2", str(tmp_path))
    one, two = (create_fence(place, "job", MIB, make_v2_cgroup) for _ in range(2))
    assert one.path != two.path
    assert parse_fence_name(one.path) == parse_fence_name(two.path)
    one.close()
    two.close()


@given(word=st.text(), number=st.integers(0, 999))
def test_every_fence_name_tells_its_owner(word: str, number: int) -> None:
    """Whatever the job is called, the name is a file name and leads back to this process."""
    name = fence_name(word, number)
    assert len(name.encode()) <= 255
    assert "/" not in name
    owner = parse_fence_name(f"/sys/fs/cgroup/{name}")
    me = identify()
    assert owner is not None
    assert (owner.pid, owner.start_ticks, owner.pid_namespace) == (me.pid, me.start_ticks, pid_namespace())


@pytest.mark.parametrize(
    "name",
    ["memguard-1-2", "memguard", "user.slice", "memguard-a-1-2-3x", "xmemguard-a-1-2-3", "memguard-a-b-1-2"],
)
def test_other_names_are_foreign(name: str) -> None:
    """A cgroup is a fence only if its name has every part."""
    assert parse_fence_name(f"/sys/fs/cgroup/{name}") is None
