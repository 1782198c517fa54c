"""AutoFeat jobs that learn from past ones: tighter from the second run on, and told by which jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from memguard.config import load_settings
from memguard.events import Event
from memguard.integrations.autofeat import AutoFeatProcessor
from memguard.manager import MemoryManager
from memguard_integrations.autofeat.jobs import preload_for
from memguard_integrations.autofeat.records import Engine


@pytest.fixture
def numbers() -> tuple[pd.DataFrame, Any]:
    """Three columns and a target that is the product of two."""
    values = np.random.default_rng(5).uniform(1, 5, (400, 3))
    return pd.DataFrame(values, columns=["a", "b", "c"]), values[:, 0] * values[:, 1]


def test_the_second_run_of_a_fit_is_admitted_with_less_and_names_the_first(
    tmp_path: Path, numbers: tuple[pd.DataFrame, Any]
) -> None:
    """Also where its user named a figure: that stays its bound, and the forecast is what is reserved."""
    granted: list[tuple[str, int]] = []

    def note(event: Event) -> None:
        if event.name == "memguard.reservation_granted":
            granted.append((event.job_id, int(event.fields["reserved_bytes"] or 0)))

    settings = load_settings({"episodes": tmp_path})
    with MemoryManager("1GiB", settings=settings, preload=preload_for(Engine.MEMGUARD)) as manager:
        manager.events.subscribe(note)
        model = AutoFeatProcessor(steps=1, featsel_runs=1, manager=manager, memory="512MiB")
        fits = [model.fit(*numbers).reports[-1] for _ in range(3)]
        used = [model.transform(numbers[0]) is not None and model.reports[-1] for _ in range(2)]
    reserved = [dict(granted)[each.job_id] for each in fits]
    assert reserved[0] == 512 << 20
    assert reserved[0] > reserved[1] > reserved[2] >= fits[2].peak_bytes
    sizing = fits[1].sizing
    assert sizing is not None
    assert [each.id for each in sizing.episodes] == [f"job-{fits[0].job_id}"]
    assert fits[1].budget.limit_bytes == 512 << 20
    assert sizing.kind == "autofeat fit memguard regression"
    assert sizing.features["rows"] == 400
    assert sizing.features["kept_columns"] >= 3
    assert used[1].sizing.kind == "autofeat transform memguard regression"
    assert used[1].sizing.observations == 1
