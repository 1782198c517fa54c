"""The benchmark of forecasts on real jobs: it replays what a store has, in order, and counts what it says it counts."""

from __future__ import annotations

import importlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from memguard.episodes import Episode, EpisodeStore

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
MIB = 1 << 20


@pytest.fixture(scope="module")
def forecast() -> Iterator[Any]:
    """Yield the benchmark's modules, and forget them: other folders of programs have a `_common` too."""
    before = dict(sys.modules)
    sys.modules.pop("_common", None)
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield SimpleNamespace(
            own=importlib.import_module("_forecast_own"), fleet=importlib.import_module("_forecast_fleet")
        )
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in [name for name in sys.modules if name == "_common" or name.startswith("_forecast_")]:
            del sys.modules[name]
        sys.modules.update({name: module for name, module in before.items() if name == "_common"})


def a_job(number: int, rows: int, outcome: str = "completed") -> Episode:
    sizing = {"kind": "fit", "world": "here", "features": {"rows": rows}}
    metadata = {
        "outcome": outcome,
        "peak_bytes": (50 + rows) * MIB,
        "duration_s": 1.0,
        "budget_bytes": 1 << 31,
    }
    return Episode(
        "a job",
        id=f"job-{number}",
        kind="job",
        namespace="jobs",
        metadata={**metadata, "sizing": sizing},
        happened_at_s=1_700_000_000.0 + 10 * number,
    )


def test_jobs_are_replayed_as_they_came(forecast: Any, tmp_path: Path) -> None:
    """Those that completed count, the first as unknown to all; who follows a line wastes less than the largest does."""
    chance = random.Random(1)
    with EpisodeStore(tmp_path) as store:
        store.add_episodes(a_job(number, chance.randint(1, 300)) for number in range(60))
        store.add_episodes([a_job(60, 5, "crashed")])
    tasks = forecast.own.tasks_of(tmp_path)
    assert [each.submitted_s for each in tasks] == [1_700_000_000.0 + 10 * number - 1 for number in range(60)]
    told = {each.what: each for each in forecast.own.figures(tmp_path)}
    assert told["own jobs: completed"].data["jobs"] == 60
    assert told["own jobs: waste against max x 1.1"].data["ratio"] < 0.8
    warm = told["own jobs: the same from the second of each kind on"].data["ratio"]
    assert warm < told["own jobs: waste against max x 1.1"].data["ratio"]
    assert told["own jobs: promised only"].data["promised"] > 10


@pytest.mark.parametrize("kind", ["table", "pairs", "file", "search", "steady"])
def test_a_job_of_the_fleet_takes_what_it_was_drawn_to_take(forecast: Any, tmp_path: Path, kind: str) -> None:
    """What its user is taken to know of a job's peak is what it holds, and it says so."""
    job = forecast.fleet._drawn_one(random.Random(3), kind, tmp_path)
    assert 90 * MIB < job.peak_bytes < 950 * MIB
    program = BENCHMARKS / "_forecast_fleet_job.py"
    more = {"FLEET_SEED": job.seed, "FLEET_HOLD_S": "0", "FLEET_NOTES": str(tmp_path)}
    subprocess.run([sys.executable, "-I", program, *job.words], check=True, env={**os.environ, **more})
    (note,) = tmp_path.glob("*.json")
    assert f'"bytes": {job.peak_bytes - forecast.fleet._BASE_BYTES},' in note.read_text()
