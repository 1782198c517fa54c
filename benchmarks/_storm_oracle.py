"""The best schedule that there is, for who knows beforehand how long each job runs and what it takes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

__all__ = ["Task", "best_makespan"]


@dataclass(frozen=True, slots=True, order=True)
class Task:
    """A job as measured alone: how long it ran, and its peak."""

    seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class _Placed:
    begins_s: float
    ends_s: float
    peak_bytes: int


@dataclass(slots=True)
class _Search:
    """Branch and bound over the orders in which tasks are placed, each where it first fits.

    For the time at which the last one ends some such order is best (active schedules: Sprecher, Kolisch, Drexl 1995).
    """

    cores: int
    memory_bytes: int
    best_s: float = math.inf
    seen: set[tuple[tuple[Task, ...], tuple[_Placed, ...]]] = field(default_factory=set)

    def place(self, left: tuple[Task, ...], placed: tuple[_Placed, ...]) -> None:
        ends_s = max((each.ends_s for each in placed), default=0.0)
        if not left:
            self.best_s = min(self.best_s, ends_s)
            return
        if max(ends_s, self.least(left, placed)) >= self.best_s or (left, placed) in self.seen:
            return
        self.seen.add((left, placed))
        for task in sorted(set(left), reverse=True):
            begins_s = next(at for at in self.times(placed) if self.fits(task, at, placed))
            spot = _Placed(begins_s, begins_s + task.seconds, task.peak_bytes)
            rest = list(left)
            rest.remove(task)
            self.place(tuple(rest), tuple(sorted((*placed, spot), key=_by_time)))

    def least(self, left: Sequence[Task], placed: Sequence[_Placed]) -> float:
        """Return what no schedule beats: all work over the cores, all memory held over the memory."""
        work = sum(task.seconds for task in left) + sum(each.ends_s - each.begins_s for each in placed)
        held = sum(task.seconds * task.peak_bytes for task in left) + sum(
            (each.ends_s - each.begins_s) * each.peak_bytes for each in placed
        )
        return max(work / self.cores, held / self.memory_bytes)

    def times(self, placed: Sequence[_Placed]) -> Iterator[float]:
        """Yield when something may begin to fit: at once, and whenever one ends."""
        yield 0.0
        yield from sorted(each.ends_s for each in placed)

    def fits(self, task: Task, begins_s: float, placed: Sequence[_Placed]) -> bool:
        ends_s = begins_s + task.seconds
        during = [each for each in placed if each.begins_s < ends_s and begins_s < each.ends_s]
        return all(
            self.has_room(task, [each for each in during if each.begins_s <= at < each.ends_s])
            for at in {begins_s, *(each.begins_s for each in during if each.begins_s > begins_s)}
        )

    def has_room(self, task: Task, others: Sequence[_Placed]) -> bool:
        used = task.peak_bytes + sum(each.peak_bytes for each in others)
        return len(others) < self.cores and used <= self.memory_bytes


def _by_time(each: _Placed) -> tuple[float, float, int]:
    return each.begins_s, each.ends_s, each.peak_bytes


def best_makespan(tasks: Sequence[Task], cores: int, memory_bytes: int) -> float:
    """Return the least time in which all tasks can run, each on a core of its own and all inside the memory.

    Raises:
        ValueError: for a task that does not fit even alone.
    """
    if any(task.peak_bytes > memory_bytes for task in tasks):
        raise ValueError(f"a task needs more than {memory_bytes} bytes")
    search = _Search(cores, memory_bytes)
    search.place(tuple(sorted(tasks)), ())
    return search.best_s
