"""One run: which columns of a row sample weigh more than noise.

Columns are told by index. A model for all of them picks a few; these are compared with noise; all others are then
tried together with these and with noise, in splits that are small against the number of rows; what beat the noise
anywhere is compared with noise once more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from memguard_integrations.autofeat.engine.ordering import listed
from memguard_integrations.autofeat.engine.selection.noise import Noise, draw_noise
from memguard_integrations.autofeat.engine.selection.sample import Sample
from memguard_integrations.autofeat.engine.selection.standard import Standardised

__all__ = ["Models", "Run"]


class Models(Protocol):
    """The models of one sample of rows."""

    def weights(
        self, columns: Sequence[int], noise: Noise | None, random: np.random.RandomState
    ) -> NDArray[np.float64]:
        """Return the weight of every column, >= 0: real ones first, then noise."""


@dataclass(frozen=True, slots=True)
class Run:
    """A sample of rows, its models, its random stream, and what noise may take.

    ``names`` are the names of all columns: only the order of sets depends on them.
    ``on_split`` is told the number of the split at hand, from 1, and how many there are.
    """

    data: Standardised
    names: Sequence[str]
    sample: Sample
    models: Models
    random: np.random.RandomState
    noise_bytes: int
    on_split: Callable[[int, int], None]

    def select(self) -> list[int]:
        """Return the columns that weigh more than noise.

        Raises:
            ValueError: There is one row only, or no model can be fitted.
        """
        if len(self.sample) <= 1:
            raise ValueError(f"n_samples = {len(self.sample)}")
        initial = self.above_noise(self._first())
        good = {self.names[column] for column in initial}
        order = list(initial)
        noise = self._noise(initial)
        others = self._others(initial)
        splits = self._splits(others, len(initial))
        for number, split in enumerate(splits, 1):
            self.on_split(number, len(splits))
            found = self._beating(split + initial, noise)
            good.update(self.names[column] for column in found)
            order += found
        return self.above_noise(self._indices(good, order))

    def above_noise(self, columns: Sequence[int]) -> list[int]:
        """Return the columns that weigh more than noise drawn for them."""
        return self._beating(columns, self._noise(columns))

    def _first(self) -> list[int]:
        """Return the columns that weigh most in a model of all, at most a fifth of the number of rows."""
        weights = self.models.weights(range(len(self.names)), None, self.random)
        threshold = np.sort(weights)[::-1][min(len(weights) - 1, len(self.sample) // 5)]
        return [int(column) for column in np.flatnonzero(weights > threshold)]

    def _noise(self, columns: Sequence[int]) -> Noise:
        return draw_noise(self.data, columns, self.sample, self.random, self.noise_bytes)

    def _beating(self, columns: Sequence[int], noise: Noise) -> list[int]:
        weights = self.models.weights(columns, noise, self.random)
        bar = weights[len(columns) :].max()
        return [column for column, weight in zip(columns, weights, strict=False) if weight > bar]

    def _others(self, initial: Sequence[int]) -> list[int]:
        taken = [self.names[column] for column in initial]
        left = self._indices(set(self.names).difference(taken), range(len(self.names)))
        return [left[place] for place in self.random.permutation(len(left))] if left else []

    def _splits(self, others: list[int], n_initial: int) -> list[list[int]]:
        """Split the other columns so that a model has no more columns than half of the rows, where it can."""
        if not others:
            return []
        n_splits = int(np.ceil(len(others) / max(10, 0.5 * len(self.sample) - n_initial)))
        size = int(np.ceil(len(others) / n_splits))
        # Rounded sizes can leave nothing for the last split; autofeat then weighs the first columns once more.
        return [others[number * size : (number + 1) * size] for number in range(n_splits)]

    def _indices(self, members: set[str], inserted: Sequence[int]) -> list[int]:
        index = {name: column for column, name in enumerate(self.names)}
        return [index[name] for name in listed(members, (self.names[column] for column in inserted))]
