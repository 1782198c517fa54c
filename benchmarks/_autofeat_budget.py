"""The engine's expansion within a budget, by way of the disk: its peak in a fresh process."""

from __future__ import annotations

import argparse
from typing import Any

from _autofeat_programs import answer_of_fresh
from _common import Figure

from memguard.units import MIB

__all__ = ["measure"]

_PROGRAM = """
import json, re, tempfile, time
import numpy as np, pandas as pd
def told(name):
    with open("/proc/self/status") as file:
        return int(re.search(name + r":\\s+(\\d+)", file.read())[1]) * 1024
from memguard_integrations.autofeat.engine.expansion import expand
rng = np.random.default_rng(0)
frame = pd.DataFrame(rng.lognormal(size=({rows}, 10)), columns=[f"x{{n}}" for n in range(10)])
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before, began = told("VmRSS"), time.perf_counter()
with tempfile.TemporaryDirectory() as scratch:
    with expand(frame, max_steps=2, memory_bytes={budget}, scratch_dir=scratch) as made:
        peak, taken = told("VmHWM") - before, time.perf_counter() - began
        matrix, spilled = len(made.columns) * {rows} * 4, made.columns.spilled_bytes
print(json.dumps(dict(peak=peak, seconds=taken, matrix=matrix, spilled=spilled)))
"""


def measure(parsed: argparse.Namespace) -> list[Figure]:
    """Expand one table within budgets of which the matrix is a multiple."""
    rows, budgets = (20_000, [96]) if parsed.quick else (100_000, [96, 192, 384])
    return [_within(rows, budget * MIB) for budget in budgets]


def _within(rows: int, budget_bytes: int) -> Figure:
    told: dict[str, Any] = answer_of_fresh(_PROGRAM.format(rows=rows, budget=budget_bytes))
    value = (
        f"peak {told['peak'] / MIB:.0f} MiB in {told['seconds']:.1f} s; {told['spilled'] / MIB:.0f} MiB on disk, "
        f"matrix {told['matrix'] / MIB:.0f} MiB"
    )
    what = f"{rows:,} x 10, 2 steps within {budget_bytes // MIB} MiB"
    return Figure(what, value, f"<= {budget_bytes // MIB} MiB", told["peak"] <= budget_bytes, told)
