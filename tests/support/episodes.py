"""Stores of episodes for tests: vectors that can be told apart, and programs that use a store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memguard.episodes import Episode, EpisodeStore
from memguard.jobs import new_job_id
from memguard.report import BudgetReport, CallerMemory, CapacityReport, CleanupSummary, JobReport, Outcome

__all__ = ["DIMENSION", "closed_store", "episode", "files_of", "report_of_a_job", "vectors"]

DIMENSION = 24


def vectors(count: int, *, seed: int = 0, dimension: int = DIMENSION) -> NDArray[np.float32]:
    """Return vectors in directions of their own, shape (count, dimension)."""
    return np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)


def episode(number: int, **more: object) -> Episode:
    """Return an episode of which everything follows from its number."""
    values: dict[str, object] = {
        "text": f"episode {number} of many",
        "vector": vectors(1, seed=number)[0],
        "metadata": {"number": number, "even": number % 2 == 0},
        "happened_at_s": 1_700_000_000.0 + number,
        **more,
    }
    return Episode(**values)  # type: ignore[arg-type]


def closed_store(folder: Path, count: int) -> Path:
    """Make a store of so many episodes, all of whose vectors lie in the files, and close it; returns its folder."""
    with EpisodeStore(folder) as store:
        store.add_episodes(episode(number, id=str(number)) for number in range(count))
        store.index()
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the files of a store's vectors by name."""
    return {path.name: path.read_bytes() for path in sorted((folder / "vectors").iterdir())}


def report_of_a_job() -> JobReport:
    """Return the report of a job that never ran, with an id of its own."""
    return JobReport(
        new_job_id(), "train", "function", "module.train", "2026-01-01T00:00:00+0000", 1.5, Outcome.COMPLETED, None, None,
        (), BudgetReport(200 << 20, "memory=", "watch"), CapacityReport(1 << 30, 1 << 29, "physical", "/proc/meminfo"),
        None, 100 << 20, None, 0, CallerMemory(1, 1, 1), CleanupSummary(0.01, True),
    )  # fmt: skip
