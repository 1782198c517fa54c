"""A disk without room for the columns that do not fit: told with figures before the start, or the fit is made light."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from memguard.estimate import AutoFeatCounts, AutoFeatRequest, estimate_engine
from memguard.integrations.autofeat import AutoFeatProcessor, FitRefused, LightMode
from memguard.units import MIB
from memguard_integrations.autofeat.engine.expansion import expand
from tests.support.small_disks import small_disk_of

Data = tuple[pd.DataFrame, "pd.Series[float]"]


@pytest.fixture(scope="module")
def table() -> Data:
    """45,000 rows of which the columns take some MiB more than the budget below has room for."""
    random = np.random.RandomState(0)
    frame = pd.DataFrame(random.rand(45_000, 5) + 0.5, columns=list("abcde"))
    return frame, frame["a"] * frame["b"] + 0.1 * random.rand(len(frame))


@pytest.fixture(scope="module")
def budget(table: Data) -> str:
    """The largest in which, by the forecast, 10 MiB of the columns go to disk, and the rest fits."""
    with expand(table[0].iloc[:1000], max_steps=2) as expansion:
        made = len(expansion.names)
    request, counts = AutoFeatRequest(*table[0].shape, steps=2), AutoFeatCounts(made, made, 1000)
    for mebibytes in range(1024, 64, -1):
        forecast = estimate_engine(request, counts, mebibytes * MIB)
        if int(forecast.inputs["scratch_bytes"] or 0) > 10 * MIB:
            assert forecast.fits(mebibytes * MIB)
            return f"{mebibytes}MiB"
    raise AssertionError("everything fits everywhere")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MiB."""
    with small_disk_of(3 * MIB, tmp_path) as path:
        yield path


@pytest.fixture
def processor(small_disk: Path, budget: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[AutoFeatProcessor]:
    """A processor whose workers put their temporary files there."""
    monkeypatch.setenv("TMPDIR", str(small_disk))
    with AutoFeatProcessor(featsel_runs=1, memory=budget) as processor:
        yield processor


def test_a_processor_refuses_with_figures(processor: AutoFeatProcessor, table: Data) -> None:
    """What would go to a disk that has no room for it is refused before the fit, and told how much it is."""
    processor.light_mode = "never"
    with pytest.raises(FitRefused, match=r"MiB of the columns go to .* has 3 MiB free .*TMPDIR") as caught:
        processor.fit(*table)
    assert caught.value.requested_bytes > caught.value.capacity_bytes == 3 * MIB
    assert len(processor.reports) == 1


@pytest.mark.heavy
def test_a_processor_does_less(processor: AutoFeatProcessor, table: Data, small_disk: Path) -> None:
    """With light mode the same fit is made, told, stays in its budget, and nothing of it is on the disk."""
    with pytest.warns(LightMode, match="folder for temporary files"):
        processor.fit(*table)
    assert processor.reports[-1].peak_bytes <= processor.reports[-1].budget.limit_bytes
    assert processor.score(*table) > 0.9
    assert list(small_disk.iterdir()) == []


def run(place: Path, small_disk: Path, budget: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command over table.csv."""
    wanted = ("--target", "y", "--memory", budget, "--selection-runs", "1", "-q", "-o", "out.parquet", *words)
    return subprocess.run(
        [sys.executable, "-m", "memguard", "autofeat", "table.csv", *wanted],
        cwd=place,
        env={**os.environ, "TMPDIR": str(small_disk)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.heavy
def test_the_command(table: Data, small_disk: Path, budget: str, tmp_path_factory: Any) -> None:
    """Refused in a line with status 125, or made light and told in the document, with forecasts beside the peaks."""
    place = tmp_path_factory.mktemp("command")
    table[0].assign(y=table[1]).to_csv(place / "table.csv", index=False)
    refused = run(place, small_disk, budget, "--light", "never")
    assert refused.returncode == 125
    assert "of the columns go to the folder for temporary files" in refused.stderr
    assert sorted(os.listdir(place)) == ["table.csv"]
    done = run(place, small_disk, budget, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["estimate"]["plan"] == "light"
    assert any("drawn at random" in sentence for sentence in told["left_out"])
    assert {"expand", "select", "fit"} <= {each["name"] for each in told["phases"] if each["expected_bytes"]}
    assert told["scores"]["fitted"]["engineered"] > 0.9
