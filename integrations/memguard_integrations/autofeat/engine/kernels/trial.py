"""What kernels compute of some numbers, hard ones among them, as one sum: the same code tells the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import numpy as np

from memguard_integrations.autofeat.engine.kernels.addresses import SUMS, of_addresses
from memguard_integrations.autofeat.engine.kernels.operations import BLOCK_ROWS, OPERATIONS

__all__ = ["told"]

_ROWS: Final = 3 * BLOCK_ROWS + 5
_HARD: Final = (0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3.4e38, -1.0)


def told(functions: dict[str, Callable[..., int]]) -> str:
    """Return a sum of all that functions of addresses compute."""
    kernels, digest = of_addresses(functions), hashlib.sha256()
    columns = (np.random.default_rng(0).standard_normal((6, _ROWS)) * 5).astype(np.float32)
    columns[1] = np.abs(columns[1]) + 1
    columns[2, : len(_HARD)] = _HARD
    for operation in OPERATIONS.values():
        for x, y in ((columns[1], columns[0]), (columns[0], columns[1]), (columns[2], columns[1])):
            out, sums = np.zeros(_ROWS, dtype=np.float32), np.zeros(SUMS)
            kernels["candidate"](operation, x, y, 1.5, 0.1, out, sums)
            digest.update(out[:BLOCK_ROWS].tobytes() + sums.tobytes())
    for column in columns:
        figures = np.zeros(5)
        kernels["profile"](column, figures)
        digest.update(figures.tobytes())
    products = np.zeros((2, 5))
    chosen, shifts = np.array([1], dtype=np.int64), np.ones(2, dtype=np.float32)
    block = np.empty(BLOCK_ROWS, dtype=np.float32)
    kernels["against"](columns[:2], chosen, shifts, columns[1:], products, block)
    digest.update(products.tobytes())
    return digest.hexdigest()
