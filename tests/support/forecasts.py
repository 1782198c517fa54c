"""Pasts for forecasts: jobs in a store as they are recorded, made up, and commands of memguard in this process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from memguard.cli.main import main
from memguard.episodes import Episode, EpisodeStore
from memguard.forecasting.commands import likeness_of_command
from memguard.units import MIB


def past_job(command: Sequence[str], number: int, peak_mib: float, **changed: Any) -> Episode:
    """Return the episode of a wrapped command that used so much, the numbered one of its kind.

    Args:
        command: what was run.
        number: its place in time, a minute apart.
        peak_mib: what it used; what it needed more than where it ran out of memory.
        changed: other metadata; ``sizing`` is merged.
    """
    likeness = likeness_of_command(command)
    sizing = {
        "kind": likeness.kind, "world": likeness.world, "features": dict(likeness.features), "miss_rate": 0.05,
        "predicted_bytes": None, "promised": False, **changed.pop("sizing", {}),
    }  # fmt: skip
    ended = 1_700_000_000.0 + 60 * number
    metadata = {
        "outcome": "completed", "peak_bytes": round(peak_mib * MIB), "duration_s": 2.0, "name": "train",
        "budget_bytes": 1 << 34, "ended_at_s": ended, "attempts": [], **changed, "sizing": sizing,
    }  # fmt: skip
    return Episode(
        id=f"job-{number}", kind="job", namespace="jobs", text="a job", metadata=metadata, happened_at_s=ended
    )


def keep(folder: Path, jobs: Iterable[Episode]) -> None:
    """Add jobs to a store."""
    with EpisodeStore(folder) as store:
        store.add_episodes(jobs)


def keep_missed(folder: Path, command: Sequence[str]) -> None:
    """Add twenty jobs that kept to their forecast to a store, and three that used more: one more, and that is no chance."""
    kept = [past_job(command, n, 30, **sized(33)) for n in range(20)]
    keep(folder, [*kept, *(past_job(command, 20 + n, 60 + 30 * n, **sized(33 + 30 * n)) for n in range(3))])


def sized(predicted_mib: float | None, *, promised: bool = False) -> dict[str, Any]:
    """Return the metadata of a job for which so much was forecast, for `past_job`."""
    predicted = None if predicted_mib is None else round(predicted_mib * MIB)
    return {"sizing": {"predicted_bytes": predicted, "promised": promised}}


def memguard(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run a command of memguard here; returns its status, what it printed and what it said."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main(list(words))
    told = capsys.readouterr()
    assert isinstance(left.value.code, int)
    return left.value.code, told.out, told.err
