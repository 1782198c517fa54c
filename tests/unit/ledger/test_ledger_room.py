"""What a room is: limits of nested cgroups, a share, a reserve; and what others were promised there."""

from __future__ import annotations

import dataclasses

import pytest

from memguard.config import load_settings
from memguard.host.readings import MachineReading, MemoryLimit, ProcessIdentity
from memguard.ledger.records import Bound, Lease, Room
from memguard.ledger.room import room_in
from memguard.ledger.waiting import rivals_of
from memguard.units import GIB, MIB, parse_size

OWNER = ProcessIdentity("here", "boot", 1, 1)
PHYSICAL = MemoryLimit("physical", "/proc/meminfo", 16 * GIB, 4 * GIB)
OUTER = MemoryLimit("cgroup-v1", "/sys/fs/cgroup/memory/outer/memory.limit_in_bytes", 8 * GIB, 2 * GIB)
INNER = MemoryLimit("cgroup-v1", "/sys/fs/cgroup/memory/outer/inner/memory.limit_in_bytes", 2 * GIB, 1 * GIB)


def machine(*limits: MemoryLimit) -> MachineReading:
    """Return a machine with these limits, outermost first."""
    binding = min(limits, key=lambda limit: limit.limit_bytes)
    free = min(limit.free_bytes for limit in limits)
    return MachineReading(binding.limit_bytes, binding.used_bytes, free, binding, limits, 0, None)


def lease(domain: str, reserved: int, used: int = 0) -> Lease:
    """Return a granted lease of a domain, in MiB."""
    return Lease("id", OWNER, "job", reserved * MIB, used * MIB, 0, 0.0, 1.0, "", 0, 0, domain)


def test_the_reserve_is_kept_back_of_all() -> None:
    """A tenth of the capacity is promised to nobody."""
    room = room_in(machine(PHYSICAL), load_settings(environ={}))
    assert room.capacity_bytes == int(16 * GIB) - int(1.6 * GIB)
    assert room.available_bytes == 12 * GIB - int(1.6 * GIB)
    assert room.domain == ""


def test_a_domain_is_the_innermost_limit_and_the_share() -> None:
    """Processes with other limits, or another share, decide for themselves."""
    settings = load_settings(environ={"MEMGUARD_CAPACITY": "1GiB"})
    assert (
        room_in(machine(PHYSICAL, OUTER, INNER), settings).domain == "/sys/fs/cgroup/memory/outer/inner#1GiB"
    )
    assert (
        room_in(machine(PHYSICAL, OUTER), load_settings(environ={})).domain == "/sys/fs/cgroup/memory/outer"
    )
    assert room_in(machine(PHYSICAL), settings).domain == "#1GiB"


@pytest.mark.requirement("R2.4", "T1.2")
def test_what_others_were_promised_counts_where_a_limit_holds_for_both() -> None:
    """A promise inside a cgroup counts against it and all around it; one outside counts against what holds for both."""
    bounds = (Bound("", 10 * GIB), Bound("/outer", 6 * GIB), Bound("/outer/inner", 1 * GIB))
    inner = Room(2 * GIB, 1 * GIB, "inner", domain="/outer/inner", bounds=bounds)
    assert inner.beside_others([lease("", 9 * 1024 + 512)]).available_bytes == 512 * MIB
    assert inner.beside_others([lease("", 4 * 1024)]).available_bytes == 1 * GIB
    assert inner.beside_others([lease("/outer", 5 * 1024 + 256)]).available_bytes == 768 * MIB
    assert inner.beside_others([lease("/outer/inner#50%", 1000)]).available_bytes == 24 * MIB
    assert inner.beside_others([lease("/outer/inner-not", 4 * 1024)]).available_bytes == 1 * GIB
    assert inner.beside_others([lease("/outer", 9 * 1024, used=9 * 1024)]).available_bytes == 1 * GIB
    waiting = dataclasses.replace(lease("/outer", 6 * 1024), granted_at_s=None)
    assert inner.beside_others([waiting]).available_bytes == 1 * GIB


def test_half_of_the_reserve_is_for_one_who_is_alone() -> None:
    """Of a share, half of what is kept back of that; nothing where jobs of another domain hold memory."""
    room = room_in(machine(PHYSICAL), load_settings(environ={}))
    assert room.spare_bytes == int(int(1.6 * GIB) * 0.5)
    share = room_in(machine(PHYSICAL), load_settings(environ={"MEMGUARD_CAPACITY": "1GiB"}))
    assert share.spare_bytes == int(102.4 * MIB) // 2
    assert share.beside_others([lease("", 10)]).spare_bytes == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [("1GiB", "1024MiB"), ("1GiB", str(GIB)), ("50%", "50.0%"), ("1GB", "1000MB"), ("2G", "2Gi")],
)
def test_the_same_share_is_one_domain_however_it_is_written(one: str, other: str) -> None:
    """Else two processes that say the same have a share each, and twice as much is promised."""
    rooms = [
        room_in(machine(PHYSICAL), load_settings({"capacity": each}, environ={})) for each in (one, other)
    ]
    assert rooms[0] == rooms[1]
    assert parse_size(rooms[0].domain.removeprefix("#")).resolve(8 * GIB) == parse_size(one).resolve(8 * GIB)


def test_the_rooms_around_are_as_they_are_seen_from_there() -> None:
    """A job inside a cgroup knows by how much the one around it may grow: by that one's limits, and its reserve."""
    room = room_in(machine(PHYSICAL, OUTER, INNER), load_settings(environ={}))
    for limits in ((PHYSICAL,), (PHYSICAL, OUTER)):
        there = room_in(machine(*limits), load_settings(environ={}))
        seen = room.of_domain(there.domain)
        assert seen == dataclasses.replace(there, around=())
    assert room.of_domain("/sys/fs/cgroup/memory/elsewhere") is None


def test_who_waits_is_told_of_those_who_share_its_memory() -> None:
    """A job of another cgroup counts where a limit holds for both; one of another share, or inside another job, does not."""
    room = room_in(machine(PHYSICAL, OUTER), load_settings(environ={}))
    mine = dataclasses.replace(lease(room.domain, 100), lease_id="mine", granted_at_s=None)
    inside = dataclasses.replace(lease(room.domain, 50), lease_id="inside", parent_id="beside")
    everyone = [
        mine,
        dataclasses.replace(lease(room.domain, 100), lease_id="beside"),
        dataclasses.replace(lease(f"{room.domain}/inner", 100), lease_id="inner"),
        dataclasses.replace(lease("/sys/fs/cgroup/memory/another", 100), lease_id="elsewhere"),
        inside,
    ]
    assert {each.lease_id for each in rivals_of(everyone, "mine", room)} == {"beside", "inner", "elsewhere"}
    share = dataclasses.replace(room, bounds=(), domain=f"{room.domain}#1GiB", share_bytes=GIB)
    mine = dataclasses.replace(mine, domain=share.domain)
    assert rivals_of([mine, *everyone[1:]], "mine", share) == []
