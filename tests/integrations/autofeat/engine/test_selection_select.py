"""Selection as a whole: what bad input gets, what stays bounded, what callers are told."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from memguard_integrations.autofeat.engine.ordering import hash_seed_is_fixed, listed
from memguard_integrations.autofeat.engine.selection import regression, select, select_features
from memguard_integrations.autofeat.engine.selection.choice import by_frequency, kept_columns
from memguard_integrations.autofeat.engine.selection.correlation import uncorrelated
from memguard_integrations.autofeat.engine.selection.noise import DrawnNoise, StreamedNoise, draw_noise
from memguard_integrations.autofeat.engine.selection.sample import Sample, run_sample
from memguard_integrations.autofeat.engine.selection.standard import Standardised, moments


class Table:
    """Columns of an array of shape (columns, rows)."""

    def __init__(self, array: NDArray[np.float32]) -> None:
        self.array = array

    @property
    def n_rows(self) -> int:
        return self.array.shape[1]

    def __len__(self) -> int:
        return len(self.array)

    def column(self, index: int) -> NDArray[np.float32]:
        return self.array[index]

    def expect(self, indices: Sequence[int], start: int, stop: int) -> None:
        """Do nothing: they are in memory."""

    def let_go_of_pages(self) -> None:
        """Do nothing: they stay in memory."""


def random_columns(n_rows: int, n_columns: int) -> Table:
    return Table(np.random.default_rng(0).standard_normal((n_columns, n_rows), dtype=np.float32))


def frame_and_target(n_rows: int = 120, n_columns: int = 6) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    values = np.random.default_rng(0).standard_normal((n_rows, n_columns))
    target = 2 * values[:, 0] - values[:, 1] + 0.1 * np.random.default_rng(1).standard_normal(n_rows)
    return pd.DataFrame(values, columns=[f"x{index}" for index in range(n_columns)]), target


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_column_that_is_not_finite_is_refused(value: float) -> None:
    """NaN and infinity in any row are an error before anything is computed."""
    frame, target = frame_and_target()
    frame.iloc[3, 2] = value
    with pytest.raises(ValueError, match="Input X contains NaN"):
        select_features(frame, target, 1)


def test_a_constant_column_is_refused() -> None:
    """It cannot be scaled to variance 1; autofeat refuses it with the same words."""
    frame, target = frame_and_target()
    frame["x3"] = np.float32(0.1)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        select_features(frame, target, 1)


def test_a_target_of_one_value_is_refused() -> None:
    """Nothing can be learnt from a target that does not vary."""
    frame, _ = frame_and_target()
    with pytest.raises(ValueError, match="Input y contains NaN"):
        select_features(frame, np.ones(len(frame)), 1)


def test_a_single_class_is_refused() -> None:
    """Classification needs two classes."""
    frame, _ = frame_and_target()
    with pytest.raises(ValueError, match="at least 2 classes"):
        select_features(frame, np.zeros(len(frame), dtype=int), 1, problem_type="classification")


@pytest.mark.parametrize(("n_rows", "message"), [(1, "n_samples = 1|contains NaN"), (2, "n_splits=5")])
def test_too_few_rows_are_refused(n_rows: int, message: str) -> None:
    """One row has no variance, and two cannot be split in five."""
    frame, target = frame_and_target(n_rows)
    with pytest.raises(ValueError, match=message):
        select_features(frame, target, 1)


def test_lengths_that_differ_are_refused() -> None:
    """A target of another length than the columns is told by autofeat's words."""
    frame, target = frame_and_target()
    with pytest.raises(ValueError, match="dimension mismatch"):
        select_features(frame, target[:-1], 1)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_informative_columns_are_chosen_and_copies_of_them_are_not(task: str) -> None:
    """Of a column and its copy, one is chosen; columns without a part in the target are not."""
    frame, values = frame_and_target(200)
    frame["copy"] = frame["x0"]
    target = values if task == "regression" else (values > 0).astype(int)
    chosen = select_features(frame, target, 1, problem_type=task)
    assert len({"x0", "copy"} & set(chosen)) == 1
    assert "x1" in chosen


def test_more_columns_than_rows_are_selected_from() -> None:
    """The paths end, and what makes the target is found."""
    frame, target = frame_and_target(60, 150)
    assert {"x0", "x1"} <= set(select_features(frame, target, 1))


def test_the_same_call_chooses_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever state numpy's global generator is in, and it is left in that state."""
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    frame, target = frame_and_target()
    np.random.seed(5)
    before = np.random.get_state()[1].tolist()  # type: ignore[index]
    first = select_features(frame, target, 2)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]
    np.random.seed(6)
    assert select_features(frame, target, 2) == first


def test_steps_and_progress_are_told() -> None:
    """A caller hears of each run and split, and is called between steps."""
    frame, target = frame_and_target()
    heard: list[tuple[str, int, int]] = []
    steps: list[int] = []
    select_features(
        frame,
        target,
        2,
        on_progress=lambda phase, done, total: heard.append((phase, done, total)),
        on_step=lambda: steps.append(1),
    )
    assert [entry for entry in heard if entry[0] == "run"] == [("run", 1, 2), ("run", 2, 2)]
    assert ("split", 1, 1) in heard
    assert len(steps) > 10


def test_a_verbose_selection_logs_its_runs(caplog: pytest.LogCaptureFixture) -> None:
    """What autofeat logs is logged, to this project's own logger."""
    frame, target = frame_and_target()
    with caplog.at_level(logging.INFO, logger="memguard.autofeat"):
        select_features(frame, target, 1, verbose=1)
    assert "[featsel] Feature selection run 1/1" in caplog.messages
    assert any("features after noise filtering" in message for message in caplog.messages)


@pytest.mark.parametrize(("n_rows", "n_columns", "allowed"), [(40_000, 40, 8 << 20), (500, 500, 6 << 20)])
def test_working_memory_stays_within_its_bound(
    monkeypatch: pytest.MonkeyPatch, n_rows: int, n_columns: int, allowed: int
) -> None:
    """Neither many rows nor many columns take more than what was allowed and the path at hand."""
    monkeypatch.setattr(regression, "EXACT_BYTES", 0)
    columns = random_columns(n_rows, n_columns)
    target = columns.column(0) + columns.column(1) * columns.column(2)
    tracemalloc.start()
    try:
        select(columns, [f"x{index}" for index in range(n_columns)], target, runs=1, memory_bytes=allowed)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Coefficients at every knot and Gram columns of the model, of columns and noise; then targets and row numbers.
    path = 2 * 500 * 8 * (n_columns + 10)
    assert peak < allowed + path + 60 * n_rows
    # What it would take otherwise: a float64 copy of a run's rows, or all sums of all columns.
    assert allowed < max(8 * n_rows * n_columns, 40 * n_columns**2)


def test_noise_beyond_its_bound_is_made_in_pieces_and_again_alike() -> None:
    """It has the spread of real columns, and the same numbers at each pass."""
    data = Standardised(random_columns(9_000, 8))
    sample = run_sample(9_000, np.random.RandomState(0))
    noise = draw_noise(data, range(8), sample, np.random.RandomState(0), 1000)
    assert isinstance(noise, StreamedNoise)
    positions = np.arange(len(sample))
    values = noise.at(positions)
    np.testing.assert_array_equal(noise.at(positions[5000:5100]), values[:, 5000:5100])
    np.testing.assert_allclose(values.std(axis=1), 1, atol=0.05)
    assert np.abs(np.corrcoef(values) - np.eye(len(values))).max() < 0.05


def test_drawn_noise_is_a_shuffle_of_all_values() -> None:
    """Together its shuffled columns hold what the real ones held."""
    data = Standardised(random_columns(200, 4))
    sample = Sample(np.arange(200))
    noise = draw_noise(data, range(4), sample, np.random.RandomState(0), 1 << 30)
    assert isinstance(noise, DrawnNoise)
    real = data.gather(range(4), sample.rows)
    np.testing.assert_array_equal(np.sort(noise.shuffled.ravel()), np.sort(real.ravel()).astype(np.float32))
    assert len(noise) == 4 + 3


def test_a_nearly_constant_column_is_summed_as_autofeat_sums() -> None:
    """Where only rounding makes a spread, it is the rounding of a sum in order."""
    column = np.full(1000, 0.1, dtype=np.float32)
    in_order = 0.0
    for value in column:
        in_order += float(value)
    assert moments(column)[0] == in_order / 1000


def test_frequency_counts_first_and_length_breaks_ties() -> None:
    """A name chosen twice comes before shorter ones; among equals the shorter one comes first."""
    assert by_frequency(["long name", "b", "twice as long", "a", "twice as long"]) == [
        "twice as long",
        "b",
        "a",
        "long name",
    ]


def test_columns_to_keep_are_found_by_name_or_by_text() -> None:
    """A number stands for the column of that text if there is one; what is no column is left out."""
    assert kept_columns([1, "x", 7], ["x", "1"]) == ["1", "x"]
    assert kept_columns([1, "y"], [1, 2]) == [1]


def test_a_column_left_out_still_leaves_out_others() -> None:
    """Correlations with all earlier columns count, taken or not."""
    matrix = np.array([[1, 0.95, 0.1], [0.95, 1, 0.95], [0.1, 0.95, 1]])
    assert uncorrelated(matrix, 1) == []


@pytest.mark.parametrize(("seed", "fixed"), [("0", True), ("12", True), ("random", False), ("", False)])
def test_only_a_number_fixes_the_order_of_sets(seed: str, fixed: bool) -> None:
    """Then a set is listed in its own order, else in the order in which its members came in."""
    environment = {"PYTHONHASHSEED": seed}
    members = {"b", "a", "c"}
    assert hash_seed_is_fixed(environment) is fixed
    expected = list(members) if fixed else ["c", "a", "b"]
    assert listed(members, ["c", "x", "a", "b", "c"], environment) == expected
