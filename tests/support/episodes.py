"""Stores of episodes for tests: vectors that can be told apart, and programs that use a store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memguard.episodes import Episode

__all__ = ["DIMENSION", "episode", "files_of", "vectors"]

DIMENSION = 24


def vectors(count: int, *, seed: int = 0, dimension: int = DIMENSION) -> NDArray[np.float32]:
    """Return vectors in directions of their own, shape (count, dimension)."""
    return np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)


def episode(number: int, **more: object) -> Episode:
    """Return an episode of which everything follows from its number."""
    values: dict[str, object] = {
        "text": f"episode {number} of many",
        "vector": vectors(1, seed=number)[0],
        "metadata": {"number": number, "even": number % 2 == 0},
        "happened_at_s": 1_700_000_000.0 + number,
        **more,
    }
    return Episode(**values)  # type: ignore[arg-type]


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the files of a store's vectors by name."""
    return {path.name: path.read_bytes() for path in sorted((folder / "vectors").iterdir())}
