"""A model's life: one row after it was loaded, and fifty fits in one process."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import _autofeat_fresh as fresh
from _common import Figure

from memguard.units import MIB, format_bytes

__all__ = ["measure"]

_SAVE = """
import pickle
from sklearn.datasets import load_diabetes
X, y = load_diabetes(return_X_y=True, as_frame=True)
model = estimators().AutoFeatRegressor(feateng_steps=2, featsel_runs=1).fit(X, y)
with open(ARGUMENTS[0], "wb") as file:
    pickle.dump(model, file)
tell(weighed(lambda: len(model.new_feat_cols_)))
"""
_ONE_ROW = """
import pickle
from sklearn.datasets import load_diabetes
X, _ = load_diabetes(return_X_y=True, as_frame=True)
estimators()
with open(ARGUMENTS[0], "rb") as file:
    model = pickle.load(file)
if CONTENDER == "stock":
    import autofeat.autofeat as module
    from sklearn.utils.validation import check_array
    module.check_array = lambda X, force_all_finite=True, **more: check_array(X, **more)
tell(weighed(lambda: list(model.transform(X.iloc[[0]]).shape)))
"""
_FITS = """
from sklearn.datasets import load_diabetes
X, y = load_diabetes(return_X_y=True, as_frame=True)
model_class = estimators().AutoFeatRegressor
def private():
    with open("/proc/self/smaps_rollup") as lines:
        # Not Private_Clean: pages of libraries are private as soon as no other process has them mapped.
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_Dirty"))
def fit():
    model_class(feateng_steps=2, featsel_runs=1).fit(X.iloc[:, :4], y)
def fits():
    fit(); fit()
    before = private()
    for _ in range(ARGUMENTS[0]):
        fit()
    return private() - before
tell(weighed(fits))
"""
_GROWTH_AIM_BYTES = 2 * MIB
_ROW_AIM = 0.02


def measure(parsed: argparse.Namespace) -> list[Figure]:
    """Measure."""
    if parsed.quick:
        return list(_figures(1, 10, 3))
    return list(_figures(parsed.repeat, 50, 8))


def _figures(repeat: int, fits: int, stock_fits: int) -> Iterator[Figure]:
    yield _one_row(repeat)
    engine = fresh.run("engine", _FITS, fits).answer
    stock = fresh.run("stock", _FITS, stock_fits).answer * fits // stock_fits
    value = f"{format_bytes(engine)}, stock {format_bytes(stock)}, told from {stock_fits}"
    yield Figure(f"growth over {fits} fits in one process", value, "< 2 MiB", engine < _GROWTH_AIM_BYTES)


def _one_row(repeat: int) -> Figure:
    times: dict[str, list[float]] = {contender: [] for contender in fresh.CONTENDERS}
    with tempfile.TemporaryDirectory() as folder:
        for contender in times:
            fresh.run(contender, _SAVE, str(Path(folder, contender)))
        for _ in range(repeat):
            for contender, taken in times.items():
                taken.append(fresh.run(contender, _ONE_ROW, str(Path(folder, contender))).seconds)
    stock, engine = (statistics.median(times[contender]) for contender in fresh.CONTENDERS)
    ratio = engine / stock
    value = f"{1000 * engine:.1f} ms, stock {1000 * stock:.0f} ms: {ratio:.4f} x"
    what = f"transform of one row by a model that was just loaded, {repeat} times"
    return Figure(what, value, f"<= {_ROW_AIM} x", ratio <= _ROW_AIM, dict(times))
