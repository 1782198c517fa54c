"""Leaks a data frame of half a mebibyte an iteration."""

import numpy as np
import pandas as pd

TRUTH = {"leaks": True, "kind": "array", "bytes": 524_288, "names": ["RESULTS", "ndarray", "DataFrame"]}
RESULTS: dict[int, pd.DataFrame] = {}


def iteration(number: int) -> None:
    """Keep the table of each run."""
    RESULTS[number] = pd.DataFrame(np.full((8192, 8), float(number)))
