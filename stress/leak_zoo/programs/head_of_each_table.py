"""Leaks whole tables by their first rows, which are views."""

from typing import Any

import numpy as np
import pandas as pd

TRUTH = {"leaks": True, "kind": "array", "bytes": 800_000, "names": ["HEADS", "ndarray"]}

HEADS: list[Any] = []


def iteration(number: int) -> None:
    """Make a table of 100,000 rows and keep two of one column."""
    table = pd.DataFrame(np.full((100_000, 1), float(number)), columns=["a"], copy=False)
    HEADS.append(table["a"].iloc[:2])
