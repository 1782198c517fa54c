"""Time and peak of an expansion, engine and stock in turns, each in a fresh process."""

from __future__ import annotations

import argparse
from typing import Any

from _autofeat_programs import answer_of_fresh
from _common import Figure, Series

from memguard.units import MIB

__all__ = ["PROGRAM", "measure", "run"]

_MOST_TIME = 0.15
_MOST_PEAK = 1.3

# The peak is the kernel's own high mark, set back after the imports.
PROGRAM = """
import json, re, time, warnings
warnings.simplefilter("ignore")
import numpy as np, pandas as pd
def told(name):
    with open("/proc/self/status") as file:
        return int(re.search(name + r":\\s+(\\d+)", file.read())[1]) * 1024
if {stock}:
    from autofeat.feateng import engineer_features
else:
    from memguard_integrations.autofeat.engine.expansion import engineer_features
rng = np.random.default_rng(0)
frame = pd.DataFrame(rng.lognormal(size=({rows}, {columns})), columns=[f"x{{n}}" for n in range({columns})])
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before, began = told("VmRSS"), time.perf_counter()
made, formulas = engineer_features(frame, max_steps={steps})
taken = time.perf_counter() - began
print(json.dumps(dict(
    seconds=taken, peak=told("VmHWM") - before, matrix=made.shape[0] * made.shape[1] * 4, columns=made.shape[1]
)))
"""


def run(stock: bool, rows: int, columns: int, steps: int) -> dict[str, Any]:
    """Expand a random table in a fresh process; returns seconds, peak and matrix in bytes, columns."""
    answer: dict[str, Any] = answer_of_fresh(
        PROGRAM.format(stock=stock, rows=rows, columns=columns, steps=steps)
    )
    return answer


def measure(parsed: argparse.Namespace) -> list[Figure]:
    """Compare two sizes in two steps, and one in three."""
    works = [(2000, 5, 2)] if parsed.quick else [(20_000, 10, 2), (100_000, 10, 2), (5_000, 5, 3)]
    return [figure for work in works for figure in _compared(*work, 1 if parsed.quick else parsed.repeat)]


def _compared(rows: int, columns: int, steps: int, repeat: int) -> list[Figure]:
    runs: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for _ in range(repeat):
        for stock, done in runs.items():
            done.append(run(stock, rows, columns, steps))
    seconds = {stock: Series(tuple(each["seconds"] for each in done)) for stock, done in runs.items()}
    peaks = {
        stock: Series(tuple(each["peak"] / each["matrix"] for each in done)) for stock, done in runs.items()
    }
    matrix, width = runs[True][0]["matrix"], runs[True][0]["columns"]
    what = f"{rows:,} x {columns}, {steps} steps"
    share = seconds[False].median / seconds[True].median
    # The aims are for two steps of large tables.
    judged = steps == 2 and rows >= 20_000
    return [
        Figure(f"{what}: matrix of {width:,} columns", f"{matrix / MIB:.0f} MiB"),
        Figure(f"{what}: stock", f"{seconds[True].median:.2f} s, peak {peaks[True].median:.2f} x the matrix"),
        Figure(f"{what}: engine", f"{seconds[False].median:.2f} s"),
        Figure(
            f"{what}: engine / stock, time",
            f"{share:.3f}",
            f"<= {_MOST_TIME}" if judged else "",
            share <= _MOST_TIME if judged else None,
        ),
        Figure(
            f"{what}: engine, peak above imports",
            f"{peaks[False].median:.2f} x the matrix",
            f"<= {_MOST_PEAK}" if judged else "",
            peaks[False].median <= _MOST_PEAK if judged else None,
        ),
    ]
