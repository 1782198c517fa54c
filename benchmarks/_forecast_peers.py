"""Who sizes jobs in the replays: this project's estimator, simple rules, and published methods from their papers.

Witt et al., "Feedback-based resource allocation for batch scheduling of scientific workflows" (HPCS 2019): a percentile
of past peaks, or a line on the input with the standard deviation of its errors on top; a failure doubles it.
Tovar et al., "A job sizing strategy for high-throughput scientific workflows" (TPDS 2018): the first allocation that
would have cost past jobs least, where a failure takes the largest seen, and then a node.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable

from _forecast_replay import NODE_BYTES, Task

from memguard.estimate import OnlineEstimator

__all__ = ["PEERS", "Estimator", "Rule"]


class Estimator:
    """This project's."""

    def __init__(self, miss_rate: float = 0.05) -> None:
        self.estimator = OnlineEstimator(miss_rate, capacity_bytes=int(NODE_BYTES))
        self.promised = False

    def size(self, task: Task) -> float:
        """Return what it says."""
        prediction = self.estimator.predict(task.kind, task.features)
        self.promised = prediction.promised
        return prediction.bytes

    def after_miss(self, task: Task, failed_bytes: float) -> float:
        """Return what it says after a kill."""
        return self.estimator.retry_bytes(task.kind, task.features, exceeded_bytes=failed_bytes)

    def learn(self, task: Task) -> None:
        """Tell it."""
        self.estimator.observe(task.kind, task.features, peak_bytes=task.peak_bytes, runtime_s=task.runtime_s)


class Rule:
    """A function of a kind's past jobs; the request where there are none."""

    promised = False
    node_bytes = NODE_BYTES

    def __init__(self, rule: Callable[[list[Task], Task], float], doubles: bool = False) -> None:
        self._rule = rule
        self._doubles = doubles
        self._past: defaultdict[str, list[Task]] = defaultdict(list)

    def size(self, task: Task) -> float:
        """Return what the rule says, at most a node."""
        past = self._past[task.kind]
        return min(self.node_bytes, self._rule(past, task)) if past else task.request_bytes

    def after_miss(self, task: Task, failed_bytes: float) -> float:
        """Return twice the failed, or the larger of 1.5 times that and the largest seen."""
        if self._doubles:
            return min(self.node_bytes, 2 * failed_bytes)
        largest = max((each.peak_bytes for each in self._past[task.kind]), default=0.0)
        return min(self.node_bytes, max(1.5 * failed_bytes, largest))

    def learn(self, task: Task) -> None:
        """Remember it."""
        self._past[task.kind].append(task)


class Tovar(Rule):
    """First allocations by Tovar et al."""

    def __init__(self) -> None:
        super().__init__(_first_allocation)

    def after_miss(self, task: Task, failed_bytes: float) -> float:
        """Return the largest seen, then a node."""
        largest = max((each.peak_bytes for each in self._past[task.kind]), default=0.0)
        return largest if largest > failed_bytes else self.node_bytes


def _largest(past: list[Task], _: Task) -> float:
    return 1.1 * max(each.peak_bytes for each in past)


def _last(past: list[Task], _: Task) -> float:
    return 1.2 * past[-1].peak_bytes


def _percentile(past: list[Task], _: Task) -> float:
    ordered = sorted(each.peak_bytes for each in past)
    return ordered[math.ceil(0.95 * len(ordered)) - 1]


def _line(past: list[Task], task: Task) -> float:
    inputs = [each.features.get("input_bytes", 0.0) for each in past]
    peaks = [each.peak_bytes for each in past]
    if len(set(inputs)) < 2:
        return max(peaks)
    slope, base = statistics.linear_regression(inputs, peaks)
    errors = [peak - base - slope * size for size, peak in zip(inputs, peaks, strict=True)]
    guess = base + slope * task.features.get("input_bytes", 0.0) + statistics.pstdev(errors)
    return max(guess, min(peaks))


def _first_allocation(past: list[Task], _: Task) -> float:
    ordered = sorted(past, key=lambda each: each.peak_bytes)
    hours, largest = sum(each.runtime_s for each in ordered), ordered[-1].peak_bytes
    best, least = largest, math.inf
    left = hours
    for each in ordered:
        left -= each.runtime_s
        cost = each.peak_bytes * hours + largest * left
        if cost < least:
            best, least = each.peak_bytes, cost
    return best


PEERS: dict[str, Callable[[], Rule]] = {
    "max x 1.1": lambda: Rule(_largest),
    "last x 1.2": lambda: Rule(_last),
    "95th percentile": lambda: Rule(_percentile),
    "Witt percentile": lambda: Rule(_percentile, doubles=True),
    "Witt line": lambda: Rule(_line, doubles=True),
    "Tovar": Tovar,
}
