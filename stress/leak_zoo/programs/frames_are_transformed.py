"""Temporary data frames of random sizes are joined and grouped."""

import numpy as np
import pandas as pd

TRUTH = {"leaks": False}
CHANCE = np.random.default_rng(10)


def iteration(number: int) -> None:
    """Group and join."""
    rows = int(CHANCE.integers(100, 5_000))
    table = pd.DataFrame({"key": CHANCE.integers(0, 50, rows), "value": CHANCE.random(rows)})
    table.join(table.groupby("key").mean(), on="key", rsuffix=" mean")
