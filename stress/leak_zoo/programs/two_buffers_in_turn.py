"""Two results of random sizes replace each other in turn."""

import numpy as np

TRUTH = {"leaks": False}
CHANCE = np.random.default_rng(8)
RESULTS: list[np.ndarray] = [np.zeros(1), np.zeros(1)]


def iteration(number: int) -> None:
    """Replace one."""
    RESULTS[number % 2] = CHANCE.random(int(CHANCE.integers(1_000, 400_000)))
