"""Leaks nothing: the last table is kept, of up to four megabytes."""

import numpy as np

TRUTH = {"leaks": False}

LAST: list[np.ndarray] = []
NUMBERS = np.random.default_rng(7)


def iteration(number: int) -> None:
    """Replace it by one of another size."""
    LAST[:] = [np.ones(int(NUMBERS.integers(1_000, 500_000)))]
