"""Replays of finished jobs against whoever sizes them: shuffled, as in the literature, and in the order of the day."""

from __future__ import annotations

import csv
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

__all__ = ["NODE_BYTES", "Outcome", "Sizes", "Task", "in_true_order", "read_trace", "shuffled"]

# What a retry gets at most, and what a job without a request gets: a node of the traces.
NODE_BYTES = 128e9
_KNOWN_AT_START = 0.3
_LEAST_ROWS = 34
_GB_HOURS = 1e9 * 3600


@dataclass(frozen=True, slots=True)
class Task:
    """One finished job: what was known before it ran, and what came of it; bytes and seconds."""

    kind: str
    features: Mapping[str, float]
    peak_bytes: float
    runtime_s: float
    submitted_s: float
    ended_s: float
    request_bytes: float = NODE_BYTES


class Sizes(Protocol):
    """Whoever sizes jobs."""

    @property
    def promised(self) -> bool:
        """Whether a rate was promised with the last size."""

    def size(self, task: Task) -> float:
        """Return the first allocation, in bytes."""

    def after_miss(self, task: Task, failed_bytes: float) -> float:
        """Return the next allocation."""

    def learn(self, task: Task) -> None:
        """Hear the truth."""


@dataclass(slots=True)
class Outcome:
    """What a replay cost: by kind the waste in GB hours and the misses."""

    waste: Counter[str] = field(default_factory=Counter)
    misses: Counter[str] = field(default_factory=Counter)
    tasks: Counter[str] = field(default_factory=Counter)
    promised: int = 0
    promised_misses: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def wasted_gbh(self) -> float:
        """Of all kinds."""
        return sum(self.waste.values())

    @property
    def miss_share(self) -> float:
        """Of first attempts, 0 to 1."""
        return self.misses.total() / max(1, self.tasks.total())

    @property
    def promised_miss_share(self) -> float:
        """Of first attempts that came with a promise, 0 to 1."""
        return self.promised_misses / max(1, self.promised)

    def run(self, task: Task, sizes: Sizes, first: float, promised: bool) -> None:
        """Let a task run by its first allocation and, while it fails, by larger ones; a failure costs all its time."""
        held, spent = first, 0.0
        while task.peak_bytes > held:
            spent += held
            held = max(held * 1.01, sizes.after_miss(task, held))
        spent += held - task.peak_bytes
        self.waste[task.kind] += spent * task.runtime_s / _GB_HOURS
        self.misses[task.kind] += task.peak_bytes > first
        self.tasks[task.kind] += 1
        self.promised += promised
        self.promised_misses += promised and task.peak_bytes > first

    def timed(self, task: Task, sizes: Sizes) -> tuple[float, bool]:
        """Return a first allocation and whether it was promised, and note how long it took."""
        began_s = time.perf_counter()
        size = sizes.size(task)
        self.seconds.append(time.perf_counter() - began_s)
        return size, sizes.promised


def shuffled(tasks: Sequence[Task], sizes: Sizes, seed: int) -> Outcome:
    """Replay kind by kind: a random 30 % is known, the rest comes one by one, and is learned at once."""
    kinds: defaultdict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        kinds[task.kind].append(task)
    outcome, chance = Outcome(), random.Random(seed)
    for found in kinds.values():
        order = chance.sample(found, len(found))
        known = round(_KNOWN_AT_START * len(order))
        for task in order[:known]:
            sizes.learn(task)
        for task in order[known:]:
            outcome.run(task, sizes, *outcome.timed(task, sizes))
            sizes.learn(task)
    return outcome


def in_true_order(tasks: Sequence[Task], sizes: Sizes) -> Outcome:
    """Replay from nothing: sized when submitted, learned when ended."""
    moments = [(task.submitted_s, 1, at) for at, task in enumerate(tasks)]
    moments += [(task.ended_s, 0, at) for at, task in enumerate(tasks)]
    outcome, first = Outcome(), dict[int, tuple[float, bool]]()
    for _, begins, at in sorted(moments):
        if begins:
            first[at] = outcome.timed(tasks[at], sizes)
        else:
            outcome.run(tasks[at], sizes, *first.pop(at))
            sizes.learn(tasks[at])
    return outcome


def read_trace(path: Path) -> list[Task]:
    """Read the rows of a Nextflow trace that count: of kinds with 34 rows at least and no run time of zero."""
    kinds: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if _number(row["rss"]) > 0:
                kinds[row["process"]].append(row)
    keep: Callable[[list[dict[str, str]]], bool] = lambda rows: (  # noqa: E731 - said once, used once
        len(rows) >= _LEAST_ROWS and all(_number(row["realtime"]) > 0 for row in rows)
    )
    return [_task(row) for rows in kinds.values() if keep(rows) for row in rows]


def _task(row: Mapping[str, str]) -> Task:
    request = _number(row["memory"]) or NODE_BYTES
    return Task(
        kind=row["process"],
        features={
            "input_bytes": _number(row["rchar"]),
            "preset_bytes": request,
            "cpus": _number(row["cpus"]),
        },
        peak_bytes=_number(row["peak_rss"]),
        runtime_s=_number(row["realtime"]) / 1000,
        submitted_s=_number(row["submit"]) / 1000,
        ended_s=_number(row["complete"]) / 1000,
        request_bytes=request,
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
