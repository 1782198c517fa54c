"""What autofeat and the libraries below it keep for ever, found by `memguard leaks`, one function each.

Run from the project's root: ``python benchmarks/autofeat_leaks.py`` prints the table of docs/autofeat-leaks.md;
``memguard leaks benchmarks.autofeat_leaks:numba_closures`` shows one of them in full.
"""

# Each function imports what it needs: the others' libraries must not be in its process.
# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from typing import Any

# What the functions have in common, made by `setup`.
TABLE: dict[str, Any] = {}
FAILURES: list[BaseException] = []
RESULTS: list[Any] = []


def setup() -> None:
    """Make a small table, once."""
    import numpy as np
    import pandas as pd

    warnings.simplefilter("ignore")
    numbers = np.random.default_rng(0)
    frame = pd.DataFrame(numbers.uniform(1, 2, (120, 3)), columns=list("abc"))
    TABLE["frame"] = frame
    TABLE["target"] = frame["a"] * frame["b"] + 0.01 * numbers.standard_normal(120)
    from sklearn.datasets import load_diabetes

    TABLE["patients"], TABLE["progression"] = load_diabetes(return_X_y=True, as_frame=True)
    TABLE["patients"] = TABLE["patients"][["bmi", "bp", "s5"]]
    TABLE["folder"] = tempfile.TemporaryDirectory(prefix="autofeat-leaks-")
    TABLE["array"] = np.zeros(500_000)


def stock_fit() -> None:
    """Fit stock autofeat on 120 rows of 3 columns, with its defaults: two steps, five selection runs."""
    from autofeat import AutoFeatRegressor

    AutoFeatRegressor(verbose=0).fit(TABLE["frame"], TABLE["target"])


def stock_small_fit() -> None:
    """The same in one step and with one selection run."""
    from autofeat import AutoFeatRegressor

    AutoFeatRegressor(feateng_steps=1, featsel_runs=1, verbose=0).fit(TABLE["frame"], TABLE["target"])


def own_fit() -> None:
    """The fit with defaults, by this project's engine."""
    from memguard.integrations.autofeat import AutoFeatRegressor

    AutoFeatRegressor(verbose=0).fit(TABLE["frame"], TABLE["target"])


def own_small_fit() -> None:
    """The small fit, by this project's engine."""
    from memguard.integrations.autofeat import AutoFeatRegressor

    AutoFeatRegressor(feateng_steps=1, featsel_runs=1, verbose=0).fit(TABLE["frame"], TABLE["target"])


def stock_fit_of_patients() -> None:
    """Fit stock autofeat with its defaults on three columns of scikit-learn's table of diabetes, 442 rows."""
    from autofeat import AutoFeatRegressor

    AutoFeatRegressor(verbose=0).fit(TABLE["patients"], TABLE["progression"])


def own_fit_of_patients() -> None:
    """The same by this project's engine."""
    from memguard.integrations.autofeat import AutoFeatRegressor

    AutoFeatRegressor(verbose=0).fit(TABLE["patients"], TABLE["progression"])


def numba_closures() -> None:
    """Compile one closure, as autofeat does for each of its transformations in each fit."""
    import numba
    import numpy as np

    @numba.njit  # type: ignore[untyped-decorator]
    def scaled(column: Any) -> Any:
        return column * 2.0 + 1.0

    scaled(np.ones(3))


def sympy_formulas(number: int) -> None:
    """Expand a formula that was not seen before, as each new feature name is."""
    import sympy

    one, other = sympy.symbols(f"x{number} y{number}")
    sympy.simplify((one + other) ** 2 - one**2)


def sympy_lambdas(number: int) -> None:
    """Turn a formula into a function: `linecache` keeps its source for ever."""
    import sympy

    symbol = sympy.Symbol("x")
    sympy.lambdify(symbol, symbol**2 + number % 7)


def kept_tracebacks(number: int) -> None:
    """Keep a failure: its traceback has the frames, and these have the arrays."""
    import numpy as np

    def fit() -> None:
        column = np.ones(50_000)
        raise ValueError(f"{number} of {len(column)}")

    try:
        fit()
    except ValueError as failure:
        FAILURES.append(failure)


def joblib_memmaps(number: int) -> None:
    """Keep a small result that is a view of an array which joblib mapped from a file."""
    import joblib

    path = os.path.join(TABLE["folder"].name, f"{number}.mmap")
    joblib.dump(TABLE["array"], path)
    mapped = joblib.load(path, mmap_mode="c")
    mapped += 1.0  # a page that was written to is this process's own
    RESULTS.append(mapped[:2])
    os.unlink(path)


# name -> how often it is called
PROGRAMS = {
    "stock_fit": 30,
    "stock_small_fit": 40,
    "own_fit": 40,
    "stock_fit_of_patients": 24,
    "own_fit_of_patients": 40,
    "own_small_fit": 60,
    "numba_closures": 60,
    "sympy_formulas": 100,
    "sympy_lambdas": 100,
    "kept_tracebacks": 60,
    "joblib_memmaps": 60,
}


def look_at(name: str) -> dict[str, Any]:
    """Return the document of `memguard leaks` for one function."""
    target = f"{__package__ or 'benchmarks'}.autofeat_leaks:{name}"
    words = [
        "-m",
        "memguard",
        "leaks",
        target,
        "--iterations",
        str(PROGRAMS[name]),
        "--json",
        "-q",
        "--for",
        "20m",
    ]
    done = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, text=True, check=False)
    if not done.stdout:
        return {"verdict": f"exit status {done.returncode}"}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def row(name: str, found: dict[str, Any]) -> str:
    """Return one line of the table."""
    culprit = found.get("source") or (found["culprits"][0]["holder"] if found.get("culprits") else "")
    if found["verdict"] == "inconclusive":
        culprit = "; ".join(found["evidence"][:2])
    rate = found.get("bytes_per_iteration", 0.0)
    shown = f"{rate / 2**20:.2f} MiB" if rate >= 2**19 else f"{rate / 1024:.1f} KiB"
    return f"| `{name}` | {found['verdict']} | {shown} | {found.get('kind') or ''} | {culprit} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(PROGRAMS), metavar="NAME")
    print("| function | verdict | an iteration | kind | who holds it |")
    print("|---|---|---|---|---|")
    for name in parser.parse_args().names:
        print(row(name, look_at(name)), flush=True)


if __name__ == "__main__":
    main()
