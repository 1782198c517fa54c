"""Where the cgroups of this process are: its own, and every ancestor that can be seen.

Comes in: /proc/self/cgroup and /proc/self/mountinfo. Goes out: for each hierarchy the directories
from the outermost to the process's own. Does not read any limit; that is `memguard.host.machine`.
Both paths are relative to cgroup namespaces, so they are compared as names and never trusted to
exist: docker shows a mount whose root is the container's cgroup, a process moved out of its
namespace has a path that begins with ``/..``, and a mount made before the namespace has such a root.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from typing import Final

from memguard.host._files import read_all

__all__ = ["CgroupPlace", "Mount", "find_places", "parse_mountinfo"]

_OCTAL: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo.

    Attributes:
        root: the directory of the file system that is mounted.
        mount_point: where it is mounted.
        kind: file system type.
        options: options of the file system itself (the super options).
        device: major and minor number as ``os.stat`` gives them in ``st_dev``.
    """

    root: str
    mount_point: str
    kind: str
    options: frozenset[str]
    device: int


@dataclass(frozen=True, slots=True)
class CgroupPlace:
    """A process's place in one cgroup hierarchy.

    Attributes:
        kind: ``cgroup-v1`` or ``cgroup-v2``.
        mount_point: where the hierarchy is mounted.
        directories: cgroups that hold the process and can be seen, outermost first.
        reaches_own: whether the last of them is the process's own cgroup.
        note: what could not be seen, or ``""``.
    """

    kind: str
    mount_point: str
    directories: tuple[str, ...]
    reaches_own: bool
    note: str = ""


# The text is read anew each time, but as it seldom changes it need not be taken apart each time.
@functools.lru_cache(maxsize=4)
def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """Read /proc/PID/mountinfo; lines of another form are left out."""
    return tuple(mount for line in text.split("\n") if (mount := _parse_mount(line)) is not None)


def _parse_mount(line: str) -> Mount | None:
    left, separator, right = line.partition(" - ")
    fields, tail = left.split(" "), right.split(" ")
    if not separator or len(fields) < 6 or len(tail) < 3:
        return None
    major, _, minor = fields[2].partition(":")
    return Mount(
        root=_unescape(fields[3]),
        mount_point=_unescape(fields[4]),
        kind=tail[0],
        options=frozenset(tail[2].split(",")),
        device=os.makedev(int(major), int(minor)),
    )


def _unescape(text: str) -> str:
    # The kernel writes space, tab, newline and backslash as three octal digits.
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def find_places(
    root: str = "", pid: int | None = None, *, controller: str = "memory", of: int | None = None
) -> tuple[CgroupPlace, ...]:
    """Find the process's place in the v2 hierarchy and in the v1 hierarchy that has a controller.

    Args:
        root: prefix of every path, ``""`` for the real machine.
        pid: the process as it appears in cgroup.procs; this one by default.
        controller: as v1 calls it.
        of: the process whose place it is, seen through the mounts of this one; this one by default.

    Raises:
        OSError: when /proc/self/cgroup or /proc/self/mountinfo cannot be read.
    """
    pid = of if pid is None else pid
    mounts = tuple(
        mount
        for mount in parse_mountinfo(_text(f"{root}/proc/self/mountinfo"))
        if mount.kind == "cgroup2" or (mount.kind == "cgroup" and controller in mount.options)
    )
    own = _own_paths(_text(f"{root}/proc/{'self' if of is None else of}/cgroup"), controller)
    return tuple(
        place
        for kind, path in own
        if (place := _best_place(root, kind, path, mounts, os.getpid() if pid is None else pid)) is not None
    )


def _text(path: str) -> str:
    return read_all(path).decode("utf-8", "surrogateescape")


def _own_paths(text: str, controller: str) -> list[tuple[str, str]]:
    """Read /proc/PID/cgroup: the path in the v2 hierarchy and in the v1 hierarchy of a controller."""
    paths = []
    # Not splitlines: a cgroup's name may hold what Unicode calls a line break.
    for line in text.split("\n"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            paths.append(("cgroup-v2", path))
        elif controller in controllers.split(","):
            paths.append(("cgroup-v1", path))
    return paths


def _best_place(root: str, kind: str, path: str, mounts: tuple[Mount, ...], pid: int) -> CgroupPlace | None:
    # A later mount on the same point hides the earlier one.
    visible = {mount.mount_point: mount for mount in mounts if _is_hierarchy(mount, kind)}
    places = [_locate(root, kind, path, mount, pid) for mount in visible.values()]
    return max(places, key=lambda place: (place.reaches_own, len(place.directories)), default=None)


def _is_hierarchy(mount: Mount, kind: str) -> bool:
    return mount.kind == ("cgroup2" if kind == "cgroup-v2" else "cgroup")


def _locate(root: str, kind: str, path: str, mount: Mount, pid: int) -> CgroupPlace:
    top = root + mount.mount_point.rstrip("/")
    below = _below(path, mount.root)
    if below is not None:
        return CgroupPlace(kind, top, _chain(top, below), reaches_own=True)
    if _is_above_namespace(mount.root, path):
        note = f"{path} is below {top} under names that are hidden here; limits in between are not seen"
        return CgroupPlace(kind, top, (top,), reaches_own=False, note=note)
    if _holds(top, pid):
        return CgroupPlace(kind, top, (top,), reaches_own=True)
    return CgroupPlace(kind, top, (), reaches_own=False, note=f"cgroup {path} is outside of what {top} shows")


def _below(path: str, mount_root: str) -> tuple[str, ...] | None:
    """Return the names that lead from the mount's root to ``path``, ``None`` if they are not known."""
    own = [name for name in path.split("/") if name]
    base = [name for name in mount_root.split("/") if name]
    rest = tuple(own[len(base) :])
    return rest if own[: len(base)] == base and ".." not in rest else None


def _is_above_namespace(mount_root: str, path: str) -> bool:
    names = [name for name in mount_root.split("/") if name]
    return bool(names) and set(names) == {".."} and path.split("/").count("..") < len(names)


def _chain(top: str, below: tuple[str, ...]) -> tuple[str, ...]:
    return tuple("/".join((top, *below[:depth])) for depth in range(len(below) + 1))


def _holds(directory: str, pid: int) -> bool:
    try:
        return str(pid).encode() in read_all(f"{directory}/cgroup.procs").split()
    except OSError:
        return False
