"""Engineered columns beside those that were given: what that costs, and whose memory it is."""

from __future__ import annotations

import sys
import threading
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from memguard_integrations.autofeat.engine.estimators.tables import with_columns


def test_added_columns_are_not_copied() -> None:
    """The frame that comes out holds the values themselves: what is taken for it is less than half of them."""
    frame = pd.DataFrame(np.ones((20_000, 2)), columns=["a", "b"])
    names, values = [f"n{number}" for number in range(20)], np.ones((20, 20_000))
    with_columns(frame, names, values)  # what pandas loads and keeps at first is not looked at
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        made = with_columns(frame, names, values)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert made.shape == (20_000, 22)
    assert peak < values.nbytes / 2


def test_writing_to_the_result_leaves_the_given_frame_alone() -> None:
    """A value written to any column of the result is not seen in the frame it was made from."""
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}, index=["x", "y"])
    made = with_columns(frame, ["c"], np.array([[5.0, 6.0]]))
    made.loc["x", :] = 0.0
    assert frame.to_numpy().tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert made.to_numpy().tolist() == [[0.0, 0.0, 0.0], [2.0, 4.0, 6.0]]
    assert list(made.columns) == ["a", "b", "c"]
    assert list(made.index) == ["x", "y"]


def test_threads_leave_pandas_options_as_they_were() -> None:
    """Many that join frames at once leave copy-on-write as the program had set it."""
    if int(pd.__version__.partition(".")[0]) >= 3:
        pytest.skip("pandas has no such option any more")
    frame, option = pd.DataFrame({"a": np.arange(10.0)}), "mode.copy_on_write"
    before, interval = pd.get_option(option), sys.getswitchinterval()

    def join() -> None:
        for _ in range(200):
            with_columns(frame, ["b"], np.ones((1, 10)))

    threads = [threading.Thread(target=join) for _ in range(4)]
    sys.setswitchinterval(1e-5)
    try:
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    finally:
        sys.setswitchinterval(interval)
    assert pd.get_option(option) is before
