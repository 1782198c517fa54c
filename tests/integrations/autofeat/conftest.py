"""One manager and one fit for all tests here: starting the template costs seconds, and so does each fit."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes

from memguard.manager import MemoryManager

Writer = Callable[..., str]


@pytest.fixture(scope="session")
def manager() -> Iterator[MemoryManager]:
    """A manager whose template has autofeat loaded."""
    pytest.importorskip("autofeat", reason="stock autofeat is not installed")
    from memguard_integrations.autofeat.jobs import preload_for
    from memguard_integrations.autofeat.records import Engine

    # Not entered: a session is longer than this folder's tests, and an entered manager encloses all that follow.
    shared = MemoryManager("2GiB", name="autofeat tests", preload=preload_for(Engine.MEMGUARD))
    try:
        yield shared
    finally:
        shared.close()


@pytest.fixture
def write_csv(tmp_path: Path) -> Writer:
    """Write a CSV file from a header and rows; returns its path."""

    def write(header: Sequence[str], rows: Sequence[Sequence[Any]], name: str = "table.csv") -> str:
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(rows)
        return str(path)

    return write


@pytest.fixture(scope="session")
def patients() -> tuple[pd.DataFrame, pd.Series]:
    """Real measurements of 442 diabetes patients: numbers, a text, a date, one gap, names that sympy cannot take.

    The text and the dates stand beside the measurements only to be encoded; the index is not the row numbers.
    """
    loaded = load_diabetes(as_frame=True, scaled=False)
    frame = loaded.data[["bmi", "s5"]].copy()
    frame["s1 (tc)"] = loaded.data["s1"].to_numpy()
    frame["sex"] = np.where(loaded.data["sex"] == 1, "f", "m")
    frame["seen"] = pd.to_datetime(["2020-03-01", "2020-03-02"] * (len(frame) // 2))
    frame.index = pd.Index(np.arange(1000, 1000 + len(frame)), name="patient")
    frame.loc[1003, "bmi"] = np.nan
    target = loaded.target.copy()
    target.index = frame.index
    return frame, target


@pytest.fixture(scope="session")
def fitted(manager: MemoryManager, patients: tuple[pd.DataFrame, pd.Series]) -> Any:
    """A processor fitted once on the patients, two steps, one selection run."""
    from memguard.integrations.autofeat import AutoFeatProcessor

    return AutoFeatProcessor(steps=2, featsel_runs=1, manager=manager, memory="1GiB").fit(*patients)
