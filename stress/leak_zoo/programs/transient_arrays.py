"""Large temporary arrays of random sizes."""

import numpy as np

TRUTH = {"leaks": False}
CHANCE = np.random.default_rng(4)


def iteration(number: int) -> None:
    """Compute with some megabytes and drop them."""
    table = CHANCE.random((int(CHANCE.integers(10, 2000)), 300))
    (table @ table[:50].T).sum()
