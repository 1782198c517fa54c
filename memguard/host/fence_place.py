"""Where a fence may be made: below a cgroup that bounds this process, never where it would escape one.

Comes in: the cgroups that hold this process. Goes out: a directory, or the reason why there is none.
v1: below the process's own memory cgroup. v2: a cgroup with processes cannot hand the controller to
children, so the fence is a child of the nearest ancestor that does hand it on, and only if nothing
between that ancestor and the process sets a limit that a sibling would not be under.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from memguard.host._files import read_once
from memguard.host.cgroups import CgroupPlace, find_places

__all__ = ["FencePlace", "NoPlace", "choose_place"]

# What a fence beside a cgroup would not be bound by; all of them say ``max`` where there is no limit.
_BOUNDS_V2: Final = ("memory.max", "memory.high", "memory.swap.max", "pids.max", "cpu.max")


@dataclass(frozen=True, slots=True)
class FencePlace:
    """A cgroup below which fences can be made.

    Attributes:
        kind: ``cgroup-v1`` or ``cgroup-v2``.
        directory: the cgroup.
    """

    kind: str
    directory: str


@dataclass(frozen=True, slots=True)
class NoPlace:
    """Why there is none.

    Attributes:
        reason: a sentence without its full stop.
    """

    reason: str


def choose_place(root: str = "") -> FencePlace | NoPlace:
    """Find the best place for fences of this process: v2 where it is delegated, else v1.

    Args:
        root: prefix of every path, ``""`` for the real machine.
    """
    try:
        places = find_places(root)
    except OSError as error:
        return NoPlace(f"no cgroups here: {error}")
    by_rank = sorted(places, key=lambda place: place.kind, reverse=True)  # v2 before v1
    answers = [_in_hierarchy(place) for place in by_rank]
    for answer in answers:
        if isinstance(answer, FencePlace):
            return answer
    reasons = [answer.reason for answer in answers if isinstance(answer, NoPlace)]
    return NoPlace("; ".join(reasons) or "no cgroup hierarchy that controls memory is mounted")


def _in_hierarchy(place: CgroupPlace) -> FencePlace | NoPlace:
    if not place.reaches_own:
        return NoPlace(place.note or f"this process's own cgroup is not visible below {place.mount_point}")
    return _in_v1(place) if place.kind == "cgroup-v1" else _in_v2(place)


def _in_v1(place: CgroupPlace) -> FencePlace | NoPlace:
    own = place.directories[-1]
    if _content(f"{own}/memory.use_hierarchy") == b"0":
        return NoPlace(f"v1: {own} does not bound its children (memory.use_hierarchy is 0)")
    if not os.access(own, os.W_OK):
        return NoPlace(f"v1: {own} is not writable for this user")
    return FencePlace("cgroup-v1", own)


def _in_v2(place: CgroupPlace) -> FencePlace | NoPlace:
    for directory in reversed(place.directories):
        if b"memory" in _content(f"{directory}/cgroup.subtree_control").split():
            return _writable_v2(directory)
        bound = _bound_v2(directory)
        if bound:
            return NoPlace(f"v2: a fence beside {directory} would escape its {bound}")
    return NoPlace(f"v2: no cgroup from {place.directories[-1]} up hands on the memory controller")


def _writable_v2(directory: str) -> FencePlace | NoPlace:
    # Moving a process needs the common ancestor's cgroup.procs to be writable as well.
    for path in (directory, f"{directory}/cgroup.procs"):
        if not os.access(path, os.W_OK):
            return NoPlace(f"v2: {path} is not writable for this user; the cgroup is not delegated")
    return FencePlace("cgroup-v2", directory)


def _bound_v2(directory: str) -> str:
    """Return the first limit that is set on a cgroup, as a file's name and its content, or ``""``."""
    for name in _BOUNDS_V2:
        content = _content(f"{directory}/{name}")
        if content and not content.startswith(b"max"):
            return f"{name} ({content.decode('ascii', 'replace')})"
    return ""


def _content(path: str) -> bytes:
    try:
        return read_once(path).strip()
    except OSError:
        return b""  # not a file of this kernel, or of this cgroup
