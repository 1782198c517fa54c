"""Leaks nothing: a table is grouped, and the last five results are kept."""

from collections import deque
from typing import Any

import numpy as np
import pandas as pd

TRUTH = {"leaks": False}

RESULTS: deque[Any] = deque(maxlen=5)
NUMBERS = np.random.default_rng(5)


def iteration(number: int) -> None:
    """Group two thousand rows."""
    table = pd.DataFrame({"key": NUMBERS.integers(0, 50, 2000), "value": NUMBERS.random(2000)})
    RESULTS.append(table.groupby("key").agg(["mean", "max"]))
