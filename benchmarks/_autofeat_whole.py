"""Whole fits: time and peak of ``fit_transform``, and of the first one in a process that imports first."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator

import _autofeat_fresh as fresh
from _common import Figure

from memguard.units import MIB

__all__ = ["measure"]

_FIT = """
import numpy as np, pandas as pd
rows, columns, steps, runs = ARGUMENTS
draw = np.random.default_rng(15)
X = pd.DataFrame(draw.normal(size=(rows, columns)) * 3 + 1, columns=[f"x{n:03}" for n in range(columns)])
y = (2 * X.x000 - 3 * X.x001 * X.x002 + X.x003 ** 2 + draw.normal(size=rows)).to_numpy()
model = estimators().AutoFeatRegressor(feateng_steps=steps, featsel_runs=runs)
import_all()
tell(weighed(lambda: len(model.fit_transform(X, y).columns)))
"""
_FIRST = """
from sklearn.datasets import load_diabetes
model_class = estimators().AutoFeatRegressor
X, y = load_diabetes(return_X_y=True, as_frame=True)
tell(weighed(lambda: model_class(feateng_steps=1, featsel_runs=1).fit(X.iloc[:, :4], y) and None))
"""


def measure(parsed: argparse.Namespace) -> list[Figure]:
    """Measure; each pair is one fit of each, one after the other."""
    return list(_figures(1 if parsed.quick else parsed.repeat, 2_000 if parsed.quick else 20_000))


def _figures(pairs: int, rows: int) -> Iterator[Figure]:
    fits = _paired(_FIT, pairs, rows, 10, 2, 1)
    what = f"fit_transform, {rows:,} x 10, 2 steps, 1 run, {pairs} pairs"
    yield _ratio(f"{what}: peak above imports", [(a.peak_bytes, b.peak_bytes) for a, b in fits], 0.2, _size)
    yield _ratio(
        f"{what}: whole process at its peak", [(a.whole_bytes, b.whole_bytes) for a, b in fits], None, _size
    )
    yield _ratio(f"{what}: time", [(a.seconds, b.seconds) for a, b in fits], 0.4, _seconds)
    first = _paired(_FIRST, pairs)
    times = [(a.since_start_s, b.since_start_s) for a, b in first]
    yield _ratio(f"import and first fit in a fresh process, {pairs} pairs", times, 0.5, _seconds)


def _paired(program: str, pairs: int, *arguments: int) -> list[tuple[fresh.Run, fresh.Run]]:
    fresh.run("engine", program, *arguments)  # compiles what is kept on disk, once a machine
    return [
        (fresh.run("stock", program, *arguments), fresh.run("engine", program, *arguments))
        for _ in range(pairs)
    ]


def _ratio(
    what: str, pairs: list[tuple[float, float]], aim: float | None, told: Callable[[float], str]
) -> Figure:
    ratio = statistics.median(engine / stock for stock, engine in pairs)
    stock, engine = (statistics.median(values) for values in zip(*pairs, strict=True))
    value = f"{told(engine)}, stock {told(stock)}: {ratio:.3f} x"
    if aim is None:
        return Figure(what, value, data={"pairs": pairs})
    return Figure(what, value, f"<= {aim} x", ratio <= aim, {"pairs": pairs})


def _size(size_bytes: float) -> str:
    return f"{size_bytes / MIB:,.0f} MiB"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s"
