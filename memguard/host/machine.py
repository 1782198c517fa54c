"""How much memory jobs of this process can have: every bound that holds, read anew on each call.

Comes in: /proc/meminfo, the memory cgroups from the process's own up to the root, and the share of
the machine that settings give to guarded jobs. Goes out: one `MachineReading`. Does not decide.

What counts as used against a cgroup's limit is what the kernel could not drop at once to make room:
everything charged, less clean file pages (both LRU lists, less dirty and write-back pages, which
must reach the disk first) and, in v2, less reclaimable slab. tmpfs pages live on the anonymous lists
and mlocked ones on the unevictable list, so both stay counted. For the whole machine the kernel
makes the same sum itself: MemAvailable.

``memory.high`` is no bound here: the kernel slows allocations beyond it but refuses none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from memguard.errors import ConfigError
from memguard.host import portable
from memguard.host._files import find_flat, parse_flat, parse_kilobytes, read_all, read_int, read_once
from memguard.host.cgroups import CgroupPlace, find_places
from memguard.host.readings import MachineReading, MemoryLimit, PressureReading

__all__ = [
    "LIMIT_FILES",
    "NO_LIMIT_FROM",
    "USAGE_FILES",
    "available_in",
    "binds",
    "parse_pressure",
    "read_machine",
    "reclaimable_in",
    "share_of",
    "summarise",
]

# v1 writes "no limit" as the largest number of whole pages below 2^63; no machine has 2^60 bytes.
NO_LIMIT_FROM: Final = 2**60


def read_machine(
    *, root: Path = Path("/"), capacity_bytes: int | None = None, guarded_used_bytes: int = 0
) -> MachineReading:
    """Read what memory there is for jobs of this process.

    Args:
        root: where /proc and /sys are; another directory reads a recorded tree.
        capacity_bytes: share of the machine given to guarded jobs (``MEMGUARD_CAPACITY``), in bytes.
        guarded_used_bytes: what guarded jobs use now; inside that share only this counts as used.

    Returns:
        The reading; a file that cannot be read leaves its bound out and a sentence in ``notes``.

    Raises:
        ConfigError: for a capacity that is not positive, as a tiny share of the machine is.
    """
    base = str(root).rstrip("/")
    notes: list[str] = []
    physical, swap_free_bytes = _physical(base, notes)
    limits = [physical, *_cgroup_limits(base, physical, notes)]
    machine = summarise(limits, swap_free_bytes, _pressure(base), notes)
    return machine if capacity_bytes is None else share_of(machine, capacity_bytes, guarded_used_bytes)


def share_of(machine: MachineReading, capacity_bytes: int, guarded_used_bytes: int = 0) -> MachineReading:
    """Return a machine of which guarded jobs have a share; see `read_machine`.

    Raises:
        ConfigError: for a share that is not positive.
    """
    if capacity_bytes <= 0:
        raise ConfigError(
            f"a capacity of {capacity_bytes} bytes leaves no room for any job; give a larger one, or unset it",
            setting="capacity",
            origin="MEMGUARD_CAPACITY",
        )
    share = MemoryLimit("MEMGUARD_CAPACITY", "MEMGUARD_CAPACITY", capacity_bytes, guarded_used_bytes)
    limits = [*machine.limits, share]
    return summarise(limits, machine.swap_free_bytes, machine.pressure, list(machine.notes))


def summarise(
    limits: list[MemoryLimit], swap_free_bytes: int, pressure: PressureReading | None, notes: list[str]
) -> MachineReading:
    """Return what limits, outermost first, mean together: the smallest binds, the least free is available."""
    binding = min(limits, key=lambda limit: limit.limit_bytes)
    return MachineReading(
        capacity_bytes=binding.limit_bytes,
        used_bytes=binding.used_bytes,
        available_bytes=min(limit.free_bytes for limit in limits),
        binding=binding,
        limits=tuple(limits),
        swap_free_bytes=swap_free_bytes,
        pressure=pressure,
        notes=tuple(notes),
    )


def _physical(base: str, notes: list[str]) -> tuple[MemoryLimit, int]:
    path = f"{base}/proc/meminfo"
    try:
        fields = parse_kilobytes(read_all(path))
        total_bytes, used_bytes = fields[b"MemTotal"], fields[b"MemTotal"] - available_in(fields)
        swap_free_bytes = fields.get(b"SwapFree", 0)
    except (OSError, KeyError) as error:
        if portable.HAS_PROC:
            notes.append(f"{path} could not be read ({error!r}); physical memory is psutil's figure")
        total_bytes, used_bytes = portable.physical_memory()
        swap_free_bytes = portable.swap_free_bytes()
    return MemoryLimit("physical", path, total_bytes, used_bytes), swap_free_bytes


def available_in(fields: dict[bytes, int]) -> int:
    """Return what can be taken without swapping, from the fields of /proc/meminfo."""
    # Kernels before 3.14 do not say MemAvailable; free pages and clean file pages come close.
    if b"MemAvailable" in fields:
        return fields[b"MemAvailable"]
    clean = fields.get(b"Active(file)", 0) + fields.get(b"Inactive(file)", 0) - fields.get(b"Dirty", 0)
    return fields[b"MemFree"] + max(0, clean)


def _cgroup_limits(base: str, physical: MemoryLimit, notes: list[str]) -> list[MemoryLimit]:
    try:
        places = find_places(base)
    except OSError as error:
        if portable.HAS_PROC:
            notes.append(f"cgroups could not be found: {error}")
        return []
    notes.extend(place.note for place in places if place.note)
    limits: list[MemoryLimit] = []
    for place in places:
        limits.extend(_limits_of_place(place, physical.used_bytes, notes))
    return limits


def _limits_of_place(place: CgroupPlace, machine_used_bytes: int, notes: list[str]) -> list[MemoryLimit]:
    limits = [
        limit
        for directory in place.directories
        if (limit := _limit_of(place, directory, machine_used_bytes, notes)) is not None
    ]
    if place.kind == "cgroup-v1" and place.reaches_own:
        limits = [*_hidden_limit(place.directories[-1], limits), *limits]
    return limits


def _limit_of(
    place: CgroupPlace, directory: str, machine_used_bytes: int, notes: list[str]
) -> MemoryLimit | None:
    path = f"{directory}/{LIMIT_FILES[place.kind]}"
    try:
        limit_bytes = read_int(path)
        if limit_bytes is None or limit_bytes >= NO_LIMIT_FROM or not binds(place, directory):
            return None
    except FileNotFoundError:
        # A root cgroup of v2 has no memory.max, a hierarchy without the controller none at all, and
        # a cgroup that was just removed has nothing any more: in each case nothing bounds.
        return None
    except (OSError, ValueError) as error:
        notes.append(f"{path} could not be read ({error}); a limit set there is not known")
        return None
    return MemoryLimit(place.kind, path, limit_bytes, _used(place.kind, directory, machine_used_bytes, notes))


LIMIT_FILES: Final = {"cgroup-v1": "memory.limit_in_bytes", "cgroup-v2": "memory.max"}
USAGE_FILES: Final = {"cgroup-v1": "memory.usage_in_bytes", "cgroup-v2": "memory.current"}


def binds(place: CgroupPlace, directory: str) -> bool:
    """Tell whether the cgroup's limit also holds for its children; before Linux 5.11 v1 could say no."""
    if place.kind == "cgroup-v2" or directory == place.directories[-1]:
        return True
    try:
        return read_int(f"{directory}/memory.use_hierarchy") != 0
    except (OSError, ValueError):
        return True


def _used(kind: str, directory: str, machine_used_bytes: int, notes: list[str]) -> int:
    path = f"{directory}/{USAGE_FILES[kind]}"
    try:
        charged_bytes = read_int(path) or 0
    except (OSError, ValueError) as error:
        # One cgroup cannot use more than the whole machine does, so this errs to the safe side.
        notes.append(f"{path} could not be read ({error}); the whole machine's use stands in for it")
        return machine_used_bytes
    return max(0, charged_bytes - _reclaimable(kind, directory, notes))


def _reclaimable(kind: str, directory: str, notes: list[str]) -> int:
    path = f"{directory}/memory.stat"
    try:
        stat = parse_flat(read_all(path))
    except OSError as error:
        notes.append(f"{path} could not be read ({error}); file cache counts as used there")
        return 0
    return reclaimable_in(kind, stat)


def reclaimable_in(kind: str, stat: dict[bytes, int]) -> int:
    """Return what the kernel could drop at once of what is charged to a cgroup, from its memory.stat."""
    return _reclaimable_v1(stat) if kind == "cgroup-v1" else _reclaimable_v2(stat)


def _reclaimable_v1(stat: dict[bytes, int]) -> int:
    file = stat.get(b"total_inactive_file", 0) + stat.get(b"total_active_file", 0)
    return max(0, file - stat.get(b"total_dirty", 0) - stat.get(b"total_writeback", 0))


def _reclaimable_v2(stat: dict[bytes, int]) -> int:
    file = stat.get(b"inactive_file", 0) + stat.get(b"active_file", 0)
    clean = max(0, file - stat.get(b"file_dirty", 0) - stat.get(b"file_writeback", 0))
    return clean + stat.get(b"slab_reclaimable", 0)


def _hidden_limit(own: str, seen: list[MemoryLimit]) -> list[MemoryLimit]:
    """Return the limit of an ancestor outside of what is mounted here, which v1 tells in memory.stat.

    How much of it others use cannot be seen; its use is this cgroup's own, a lower bound.
    """
    path = f"{own}/memory.stat"
    try:
        limit_bytes = find_flat(read_all(path), b"hierarchical_memory_limit")
    except (OSError, ValueError):
        return []  # already noted where the cgroup's own use was read, if it has a limit at all
    if limit_bytes >= min((limit.limit_bytes for limit in seen), default=NO_LIMIT_FROM):
        return []
    notes: list[str] = []
    used_bytes = _used("cgroup-v1", own, 0, notes)
    return [MemoryLimit("cgroup-v1", f"{path} (hierarchical_memory_limit)", limit_bytes, used_bytes)]


def _pressure(base: str) -> PressureReading | None:
    try:
        return parse_pressure(read_once(f"{base}/proc/pressure/memory"))
    except (OSError, ValueError):
        # Absent before Linux 4.20, and EOPNOTSUPP when it is built in but switched off.
        return None


def parse_pressure(text: bytes) -> PressureReading:
    """Read the content of /proc/pressure/memory.

    Raises:
        ValueError: when it has no ``some`` line with an average over ten seconds.
    """
    averages = {}
    for line in text.decode("ascii").splitlines():
        word, *fields = line.split()
        averages[word] = dict(field.split("=", 1) for field in fields).get("avg10")
    some, full = averages.get("some"), averages.get("full")
    if some is None:
        raise ValueError(f"not the content of a pressure file: {text[:60]!r}")
    return PressureReading(some_avg10=float(some), full_avg10=float(full or 0.0))
