"""Rows become numbers by a fixed plan, the same for every batch."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.errors import DataError
from memguard_integrations.autofeat.checks import make_plan
from memguard_integrations.autofeat.encode import (
    collect,
    drop_constant,
    encode_features,
    encode_target,
    fill,
    medians,
    sample_rows,
    unknown_levels,
    usable_rows,
)
from memguard_integrations.autofeat.records import FeaturePlan, MissingPolicy, TableFacts, Task
from memguard_integrations.autofeat.sources import FrameSource
from memguard_integrations.autofeat.survey import survey

Planned = tuple[FrameSource, TableFacts, FeaturePlan]


def planned(frame: pd.DataFrame, task: Task = Task.REGRESSION, missing: str = "skip") -> Planned:
    source = FrameSource(frame)
    facts = survey(source, source.names)
    return source, facts, make_plan(facts, "y", task, MissingPolicy(missing))


def batch_of(frame: pd.DataFrame) -> pa.RecordBatch:
    return pa.RecordBatch.from_pandas(frame, preserve_index=False)


@pytest.fixture
def frame() -> pd.DataFrame:
    rows = 24
    return pd.DataFrame(
        {
            "number": np.arange(rows, dtype=float),
            "kind": ["abc"[row % 3] for row in range(rows)],
            "when": pd.date_range("2021-06-05 10:00", periods=rows, freq="36h", tz="Europe/Paris"),
            "flag": [row % 2 == 0 for row in range(rows)],
            "y": np.arange(rows) * 3,
        }
    )


def test_values_are_what_they_should_be(frame: pd.DataFrame) -> None:
    """Numbers stay, texts become 0/1, booleans 0/1, times their parts in UTC and days since the first."""
    source, _, plan = planned(frame)
    features, target = collect(source, plan, np.arange(len(frame)))
    found = pd.DataFrame(features, columns=plan.names)
    utc = frame["when"].dt.tz_convert("UTC")
    assert (found["number"] == frame["number"]).all()
    assert (found["kind_b"] == (frame["kind"] == "b")).all()
    assert (found["flag"] == frame["flag"]).all()
    assert (found["when_hour"] == utc.dt.hour).all()
    assert (found["when_dayofweek"] == utc.dt.dayofweek).all()
    assert np.allclose(found["when_elapsed_days"], np.arange(len(frame)) * 1.5)
    assert (target == frame["y"]).all()


@given(st.lists(st.integers(1, 23), min_size=1, max_size=4))
def test_batches_encode_as_the_whole(cuts: list[int]) -> None:
    """However the rows are cut, each part gets the columns and values that it has in the whole."""
    rows = 24
    frame = pd.DataFrame(
        {
            "number": np.arange(rows) / 7,
            "kind": ["abc"[row // 8] for row in range(rows)],
            "y": np.arange(rows),
        }
    )
    _, _, plan = planned(frame)
    whole = encode_features(batch_of(frame), plan, "X")
    edges = sorted({0, rows, *cuts})
    parts = [encode_features(batch_of(frame.iloc[low:high]), plan, "X") for low, high in pairwise(edges)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_missing_and_infinite_values_become_nan(frame: pd.DataFrame) -> None:
    """A gap in any kind of column, an infinity and a 32-bit overflow leave NaN, and make the row unusable."""
    frame["number"] = frame["number"].astype(object)
    frame = frame.astype({"number": float})
    frame.loc[0, "number"] = np.inf
    frame.loc[1, "number"] = 1e300
    frame.loc[2, "kind"] = None
    frame.loc[3, "when"] = pd.NaT
    frame = frame.astype({"y": float})
    frame.loc[4, "y"] = np.nan
    source, _, plan = planned(frame)
    features = encode_features(next(source.batches(source.names)), plan, "X")
    assert np.isnan(features).any(axis=1).tolist() == [row < 4 for row in range(len(frame))]
    assert usable_rows(source, plan).tolist() == [row > 4 for row in range(len(frame))]


def test_medians_fill_numbers_and_the_most_frequent_level_fills_text() -> None:
    """A filled number is the median of the rows fitted on, a filled text their most frequent value."""
    frame = pd.DataFrame(
        {"number": [1.0, 2.0, 9.0, np.nan] * 6, "kind": ["a", "b", "b", None] * 6, "y": np.arange(24.0)}
    )
    source, facts, plan = planned(frame, missing="median")
    assert usable_rows(source, plan).all()
    features, _ = collect(source, plan, np.arange(24))
    fills = medians(features, plan, facts)
    filled = pd.DataFrame(fill(features, fills), columns=plan.names)
    assert filled["number"].iloc[3] == 2.0
    assert not filled.isna().any(axis=None)
    level = next(column for column in plan.columns if column.source == "kind")
    assert filled[level.name].iloc[3] == float(level.level == "b")


@pytest.mark.parametrize(
    ("labels", "written"),
    [
        (["no", "yes"], pa.array(["yes", "no", None, "maybe"])),
        (["no", "yes"], pa.array(["yes", "no", None, "maybe"]).dictionary_encode()),
        (["0", "1"], pa.array([1.0, 0.0, None, 7.0])),
        (["-1", "10"], pa.array(["10.0", "-1", None, "3"])),
    ],
)
def test_classes_have_codes(labels: list[str], written: pa.Array) -> None:
    """A class is its place in the plan, however it is written; missing and unknown ones are NaN."""
    rows = pd.DataFrame({"a": range(20), "y": labels * 10})
    _, _, plan = planned(
        rows.astype({"y": int}) if labels[0].strip("-").isdecimal() else rows, Task.CLASSIFICATION
    )
    codes = encode_target(written, plan)
    order = {label: place for place, label in enumerate(plan.classes)}
    assert codes[:2].tolist() == [order[labels[1]], order[labels[0]]]
    assert np.isnan(codes[2:]).all()


def test_an_unknown_level_is_counted(frame: pd.DataFrame) -> None:
    """A text that the plan has not seen is none of its levels, and is counted so that it can be told."""
    _, _, plan = planned(frame)
    frame.loc[:1, "kind"] = "new"
    batch = batch_of(frame)
    assert unknown_levels(batch, plan) == {"kind": 2}
    features = pd.DataFrame(encode_features(batch, plan, "X"), columns=plan.names)
    assert features.loc[:1, ["kind_a", "kind_b", "kind_c"]].to_numpy().sum() == 0


def test_a_column_of_another_kind_is_refused(frame: pd.DataFrame) -> None:
    """Text where the fit saw numbers is refused by the column's name."""
    _, _, plan = planned(frame)
    frame["number"] = "much"
    with pytest.raises(DataError, match="column 'number' holds a value that is no number"):
        encode_features(batch_of(frame), plan, "X")


def test_columns_that_are_constant_in_the_sample_are_left_out() -> None:
    """What varies in the table may not in the rows fitted on, not even by a difference that 32 bits cannot hold."""
    frame = pd.DataFrame({"a": np.arange(20.0), "b": [1e9 + row for row in range(20)], "y": np.arange(20.0)})
    _, _, plan = planned(frame)
    features = np.asfortranarray(frame[["a", "b"]].to_numpy())
    left, smaller, dropped = drop_constant(features, plan)
    assert dropped == ("b",)
    assert smaller.names == ("a",)
    assert np.array_equal(left[:, 0], frame["a"])
    with pytest.raises(DataError, match="every column is constant"):
        drop_constant(np.ones((20, 2)), plan)


def test_the_sample_is_seeded_usable_and_in_order() -> None:
    """The same seed takes the same rows, another seed others; only usable ones, ascending; all where all are asked."""
    usable = np.arange(1000) % 3 > 0
    first, again, other = (sample_rows(usable, 100, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert usable[first].all()
    assert (np.diff(first) > 0).all()
    assert np.array_equal(sample_rows(usable, None, 0), np.flatnonzero(usable))


def test_collect_takes_the_rows_asked_for(frame: pd.DataFrame) -> None:
    """The rows come in their order, each with its own target, across batches."""
    big = pd.concat([frame] * 5000, ignore_index=True).assign(
        number=lambda each: np.arange(len(each), dtype=float)
    )
    source, _, plan = planned(big)
    rows = np.array([0, 7, 49_999, 50_000, 119_999])
    features, target = collect(source, plan, rows)
    place = plan.names.index("number")
    assert features[:, place].tolist() == rows.tolist()
    assert target.tolist() == big["y"].iloc[rows].tolist()
