"""What tests of batches share: room that the test says, and data of all kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from memguard.guard.pressure import Pressure
from memguard.memory import (
    BatchDecision,
    BatchFailure,
    BatchHooks,
    BatchReason,
    iterate_batches,
    map_batches,
)
from memguard.memory.rows import row_count
from memguard.units import MIB


class Room:
    """Free memory, use and pressure as a script: what a batch costs is what the test says."""

    def __init__(self, free: int = 100 * MIB, cost_per_row: int = 0) -> None:
        self.free, self.cost_per_row, self.peak, self.finished = free, cost_per_row, 0, list[int]()
        self.pressure = Pressure.NORMAL
        self.decisions: list[BatchDecision] = []
        self.failures: list[BatchFailure] = []
        self.checkpoints = 0

    @property
    def hooks(self) -> BatchHooks:
        return BatchHooks(
            free_bytes=lambda: self.free,
            used_bytes=lambda: 0,
            peak_bytes=self.take_peak,
            pressure=lambda: self.pressure,
            checkpoint=self.check,
            on_batch=self.finished.append,
            on_decision=self.decisions.append,
            on_failure=self.failures.append,
        )

    def batches(self, data: Any, rows: int | None = None) -> list[Any]:
        found = []
        for batch in iterate_batches(data, self.hooks, rows=rows):
            self.peak = row_count(batch) * self.cost_per_row
            found.append(batch)
        return found

    def map(self, function: Callable[[Any], Any], data: Any, **options: Any) -> list[Any]:
        return list(map_batches(function, data, self.hooks, **options))

    @property
    def reasons(self) -> list[BatchReason]:
        return [each.reason for each in self.decisions]

    def check(self) -> None:
        self.checkpoints += 1

    def take_peak(self) -> int:
        peak, self.peak = self.peak, 0
        return peak


KINDS: dict[str, Callable[[np.ndarray[Any, Any]], Any]] = {
    "frame": lambda numbers: pd.DataFrame({"n": numbers}, index=numbers[::-1]),
    "series": lambda numbers: pd.Series(numbers, index=numbers[::-1]),
    "array": lambda numbers: numbers,
    "arrow": lambda numbers: pa.table({"n": numbers}),
    "list": list,
}


def numbers_of(part: Any) -> list[int]:
    """Return the rows of a part as numbers, whatever it is."""
    if isinstance(part, pa.Table):
        return list(part["n"].to_pylist())
    if isinstance(part, pd.DataFrame):
        return list(part["n"])
    return [int(each) for each in part]
