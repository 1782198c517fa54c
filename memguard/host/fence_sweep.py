"""Fences whose owner died: emptied and removed, and no other cgroup ever touched.

Comes in: the cgroup hierarchies that can be seen. Goes out: the paths of the fences that were removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from memguard.host.cgroups import CgroupPlace, find_places
from memguard.host.fence import Fence, FenceError
from memguard.host.fence_names import parse_fence_name
from memguard.host.identity import identify, is_alive, pid_namespace
from memguard.host.readings import ProcessIdentity

__all__ = ["find_stale_fences", "sweep_stale_fences"]


def sweep_stale_fences() -> tuple[str, ...]:
    """Empty and remove every fence whose owner is proven dead.

    A fence that cannot be emptied or removed (another user's, a process that does not die) is left for
    the next sweep; `find_stale_fences` still shows it.

    Returns:
        The paths that were removed.
    """
    return tuple(path for path, kind in _stale() if _clear(path, kind))


def find_stale_fences() -> tuple[str, ...]:
    """Return the paths of fences whose owner is proven dead, and touch none."""
    return tuple(path for path, _ in _stale())


def _stale() -> list[tuple[str, str]]:
    try:
        places = find_places()
    except OSError:
        return []  # no cgroups here, so no fences
    return [(path, place.kind) for place in places for path in _stale_in(place)]


def _stale_in(place: CgroupPlace) -> Iterator[str]:
    # Innermost first: a fence within a fence goes before the one around it.
    for directory, _, _ in os.walk(place.mount_point, topdown=False):
        # Not the fence that holds this process: a guarded job may outlive its guard and run memguard.
        if _is_stale(directory) and directory not in place.directories:
            yield directory


def _is_stale(directory: str) -> bool:
    owner = parse_fence_name(directory)
    if owner is None or owner.pid_namespace != pid_namespace():
        return False
    here = identify()
    return not is_alive(ProcessIdentity(here.host, here.boot_id, owner.pid, owner.start_ticks))


def _clear(path: str, kind: str) -> bool:
    try:
        fence = Fence(path, kind, limit_bytes=0)
    except OSError:
        return False  # another sweep was faster, or it is another user's
    try:
        fence.kill_all()
        fence.remove()
    except FenceError:
        return False
    finally:
        fence.close()
    return True
