"""Real jobs, run twice: the second is admitted with what the first used, and says which job made it so."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from memguard import MemoryManager
from memguard.config import load_settings
from memguard.episodes import EpisodeStore
from memguard.errors import TransferError
from memguard.events import Event
from memguard.forecasting import forecaster_for

MIB = 1 << 20
HOG = "import sys; held = bytearray(int(sys.argv[1]) << 20)"


def fill(mebibytes: int) -> int:
    """Use so much, and one MiB more."""
    return int(np.ones(mebibytes << 17).sum())


def wrapped(store: Path, *words: str) -> dict[str, object]:
    """Run a command under guard and return its report."""
    done = subprocess.run(
        [sys.executable, "-m", "memguard", "run", "--json", "--episodes", str(store), *words],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    return dict(json.loads(done.stdout))


def test_the_second_call_reserves_what_the_first_used(tmp_path: Path) -> None:
    """Another manager knows it from the store, by its sizes, and names the episode."""
    settings = load_settings({"episodes": tmp_path})
    granted: list[int] = []

    def note(event: Event) -> None:
        if event.name == "memguard.reservation_granted":
            granted.append(int(event.fields["reserved_bytes"] or 0))

    reports = []
    for mebibytes in (40, 60, 80, 100):
        with MemoryManager("1GiB", settings=settings) as manager:
            manager.events.subscribe(note)
            reports.append(manager.run(fill, mebibytes).report)
    first, last = reports[0].sizing, reports[-1].sizing
    assert first is not None
    assert last is not None
    assert first.predicted_bytes is None
    assert granted[0] == 1024 * MIB
    assert last.predicted_bytes == granted[-1] < 400 * MIB
    assert {each.id for each in last.episodes} <= {f"job-{each.job_id}" for each in reports}
    assert last.episodes
    with EpisodeStore(tmp_path) as store:
        kept = store.get_episode(f"job-{reports[-1].job_id}")
    assert kept.metadata["sizing"]["predicted_bytes"] == last.predicted_bytes


def test_a_command_learns_from_runs_with_other_data(tmp_path: Path) -> None:
    """What numbers it was given and what it used tells the next run, from another process, what it needs."""
    reports = [
        wrapped(tmp_path, "--", sys.executable, "-c", HOG, str(mebibytes))
        for mebibytes in (40, 80, 120, 160, 200)
    ]
    sizing = reports[-1]["sizing"]
    assert isinstance(sizing, dict)
    assert sizing["observations"] == 4
    assert sizing["basis"] == "history"
    assert 150 * MIB < sizing["expected_bytes"] < 260 * MIB
    assert sizing["next_bytes"] >= 200 * MIB


def test_a_user_figure_counts_until_enough_is_known_and_is_a_cap(tmp_path: Path) -> None:
    """With five known jobs less is reserved than was named; the job may still use all that was named."""
    settings = load_settings({"episodes": tmp_path})
    granted: list[int] = []

    def note(event: Event) -> None:
        if event.name == "memguard.reservation_granted":
            granted.append(int(event.fields["reserved_bytes"] or 0))

    with MemoryManager("1GiB", settings=settings) as manager:
        manager.events.subscribe(note)
        reports = [manager.run(fill, 30, memory="600MiB").report for _ in range(6)]
    assert granted[:5] == [600 * MIB] * 5
    assert granted[5] < 300 * MIB
    assert reports[5].budget.limit_bytes == 600 * MIB


@pytest.mark.parametrize("off", [{"forecast": "off"}, {"episodes": "unset"}])
def test_forecasts_can_be_switched_off(tmp_path: Path, off: dict[str, str]) -> None:
    """Without them, or without a store, nothing is written; without them nothing is sized either."""
    settings = load_settings({"episodes": tmp_path, **off})
    with MemoryManager("1GiB", settings=settings) as manager:
        report = manager.run(fill, 10).report
    assert (report.sizing is None) == ("forecast" in off)
    assert any(tmp_path.iterdir()) == ("forecast" in off)


def give_up() -> None:
    """Fail far from any peak."""
    raise ValueError("no such column")


def test_jobs_that_fail_or_never_start_are_not_waited_for(tmp_path: Path) -> None:
    """What ended without a figure, or could not be admitted, keeps no promise from being given to later ones."""
    settings = load_settings({"episodes": tmp_path})
    with MemoryManager("1GiB", settings=settings) as manager:
        manager.run(fill, 10)
        for _ in range(3):
            manager.run(give_up, check=False)
            with pytest.raises(TransferError):
                manager.run(fill, threading.Lock())
        manager.run(fill, 10)
        forecaster = forecaster_for(settings)
    assert forecaster is not None
    assert [each["pending"] for each in forecaster.estimator.state_dict()["kinds"]] == [[]] * len(
        forecaster.estimator.state_dict()["kinds"]
    )
