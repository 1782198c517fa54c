"""Whether an add can be afforded, before anything of it is made: what it takes against what is left.

Comes in: episodes as they were given. Goes out: parts to write them in, one under usual circumstances, or an error
that names the sizes. It promises nothing of what others take meanwhile: the guards see to that.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from memguard.errors import CapacityExceeded
from memguard.host import read_machine
from memguard.host.readings import MemoryLimit
from memguard.memory.rooms import least_room
from memguard.memory.shedding import shed_all
from memguard.units import MIB, format_bytes
from memguard.worker.context import JobContext, current_job

__all__ = ["Affording", "Room", "needed_bytes", "room_here"]

Room = tuple[int, str]
# Less than this no figure of a process's memory is exact to: it is written whatever is left, an episode at a time.
SMALL_BYTES: Final = MIB
# By how much the high-water mark of a process rose while it added 3 to 20,000: 0.8 KiB for a short one, 3.7 bytes for
# an ASCII character of a long text and 7 for a Chinese one, 2.7 times a vector of 384. Rounded up.
_EPISODE_BYTES: Final = 1024
_ASCII_BYTES: Final = 4
_OTHER_BYTES: Final = 8
_VECTOR_COPIES: Final = 3
# Of what is left this much is taken by a part, for the next look may find less.
_PART: Final = 0.5
# Above 95 % of the machine its caches are given back, and nothing large is begun.
_KEPT_BACK: Final = 0.05
# A look at the machine takes a millisecond.
_LOOK_LASTS_S: Final = 0.25


def needed_bytes(episode: Any) -> int:
    """Return about what it takes in memory to add an episode, beyond the episode itself; never raises.

    What is no episode is refused elsewhere, in better words.
    """
    text, vector = getattr(episode, "text", ""), getattr(episode, "vector", None)
    size = _EPISODE_BYTES
    if isinstance(text, str):
        size += len(text) * (_ASCII_BYTES if text.isascii() else _OTHER_BYTES)
    if vector is None:
        return size
    length = getattr(vector, "size", None)
    if not isinstance(length, int):  # a tensor's is a method
        length = len(vector) if hasattr(vector, "__len__") else 0
    return size + _VECTOR_COPIES * 4 * int(length)


def _bound_bytes(episodes: Sequence[Any]) -> float:
    """Return no less than episodes need together, in a fifth of the time that each by itself takes."""
    try:
        characters = sum(map(len, [each.text for each in episodes]))
        numbers = sum([0 if each.vector is None else len(each.vector) for each in episodes])
    except (AttributeError, TypeError):  # no episodes: each is looked at, and then refused in better words
        return math.inf
    return len(episodes) * _EPISODE_BYTES + _OTHER_BYTES * characters + 4 * _VECTOR_COPIES * numbers


class _Machine:
    """What the machine has left, as it was a moment ago."""

    def __init__(self) -> None:
        self._seen: tuple[float, int, MemoryLimit] | None = None

    def room(self, job: JobContext | None) -> Room:
        now_s = time.monotonic()
        if self._seen is None or now_s - self._seen[0] >= _LOOK_LASTS_S:
            machine = read_machine()
            left = machine.available_bytes - int(_KEPT_BACK * machine.capacity_bytes)
            self._seen = now_s, max(0, left), machine.binding
        _, left, limit = self._seen
        if job is not None and limit.limit_bytes == job.budget_bytes:  # its fence
            return left, _budget_of(job)
        return left, f"{limit.path} (95 % of it)"


_machine: Final = _Machine()


def room_here() -> Room:
    """Return what this process can take now, and what bounds it: a block's budget, the job's, or the machine."""
    job = current_job()
    rooms = [_machine.room(job)]
    if (block := least_room()) is not None:
        rooms.append(block)
    if job is not None and (free := job.free_bytes) is not None:
        rooms.append((free, _budget_of(job)))
    return min(rooms)


def _budget_of(job: JobContext) -> str:
    return f"the budget of job {job.name}"


class Affording:
    """Decides for one store.

    Args:
        room: says what can be taken now, and what bounds it.
        shed: has caches of this process given back.
    """

    def __init__(
        self, room: Callable[[], Room] = room_here, shed: Callable[[int], object] = shed_all
    ) -> None:
        self._room, self._shed = room, shed

    def parts(self, episodes: Sequence[Any]) -> list[Sequence[Any]]:
        """Return the episodes in the parts in which they can be added, in order.

        Where there is too little room the caches of the process are given back first. Then parts are made smaller,
        down to one episode.

        Raises:
            CapacityExceeded: if one of them alone cannot be afforded; says sizes, bound and remedy.
        """
        bound = needed_bytes(episodes[0]) if len(episodes) == 1 else _bound_bytes(episodes)
        if bound <= SMALL_BYTES:
            return [episodes]
        room, name = self._room()
        if bound <= room:
            return [episodes]
        needs = [needed_bytes(each) for each in episodes]
        total = sum(needs)
        if total <= SMALL_BYTES:
            return [episodes]
        if total > room:
            self._shed(total - room)
            room, name = self._room()
        if total <= room:
            return [episodes]
        return list(_parted(episodes, needs, max(SMALL_BYTES, int(_PART * room)), room, name))

    def refused(self, need_bytes: int, count: int) -> CapacityExceeded:
        """Return why episodes cannot be had in memory at once."""
        room, name = self._room()
        told = f"to add {count} episodes at once takes about {format_bytes(need_bytes)} of memory"
        return _error(told, "add fewer at a time", need_bytes, room, name)


def _parted(
    episodes: Sequence[Any], needs: list[int], most: int, room: int, name: str
) -> list[Sequence[Any]]:
    parts: list[Sequence[Any]] = []
    begin = held = 0
    for at, need in enumerate(needs):
        if need > max(SMALL_BYTES, room):
            raise _refused(need, at, len(needs), room, name)
        if held and held + need > most:
            parts.append(episodes[begin:at])
            begin, held = at, 0
        held += need
    parts.append(episodes[begin:])
    return parts


def _refused(need: int, at: int, count: int, room: int, name: str) -> CapacityExceeded:
    which = "the episode" if count == 1 else f"episode {at + 1} of {count}"
    return _error(
        f"to add {which} takes about {format_bytes(need)} of memory", "split its text", need, room, name
    )


def _error(told: str, remedy: str, need: int, room: int, name: str) -> CapacityExceeded:
    return CapacityExceeded(
        f"{told}, and {format_bytes(room)} are left of {name}; nothing was stored: {remedy}, wait for others to end, "
        "or give the job around it more (memory=)",
        requested_bytes=need,
        capacity_bytes=room,
        limited_by=name,
    )
