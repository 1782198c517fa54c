"""Noise columns that set the bar for real ones: values of the real columns in random places, and Gaussian ones.

Two ways to have them. ``DrawnNoise`` draws from the very streams that autofeat draws from and so gets the very
numbers; that takes the noise in memory at once, since a shuffle of all values has no part that could be had
alone. Where this does not fit, ``StreamedNoise`` makes it again at each pass, in pieces of fixed size: values are
shuffled within a piece. Rows of a sample are in random order, so the values of a piece are a sample of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from memguard_integrations.autofeat.engine.selection.sample import Sample
from memguard_integrations.autofeat.engine.selection.standard import Standardised, moments

__all__ = [
    "PIECE_ROWS",
    "DrawnNoise",
    "Noise",
    "PermutedNoise",
    "StreamedNoise",
    "draw_noise",
    "n_gaussian",
    "noise_bytes",
]

# Fewer rows than this and autofeat adds no shuffled columns.
SHUFFLED_ROWS = 50
FEWEST_GAUSSIAN = 3
# Rows that StreamedNoise shuffles together: enough that outliers of a column meet every noise column.
PIECE_ROWS = 4096


class Noise(Protocol):
    """Noise columns next to the rows of a sample."""

    def __len__(self) -> int:
        """How many columns."""

    def at(self, positions: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the columns at some positions of the sample, shape (len(self), len(positions))."""


def n_gaussian(n_columns: int) -> int:
    """How many Gaussian columns accompany so many real ones."""
    return max(FEWEST_GAUSSIAN, n_columns // 2)


def n_shuffled(n_columns: int, n_rows: int) -> int:
    """How many shuffled columns accompany so many real ones."""
    return n_columns if n_rows > SHUFFLED_ROWS and n_columns > 1 else 0


def noise_bytes(n_columns: int, n_rows: int) -> int:
    """What DrawnNoise takes: float32 for shuffled values, float64 for Gaussian ones."""
    return n_rows * (4 * n_shuffled(n_columns, n_rows) + 8 * n_gaussian(n_columns))


def draw_noise(
    data: Standardised,
    columns: Sequence[int],
    sample: Sample,
    random: np.random.RandomState,
    most_bytes: int,
) -> Noise:
    """Draw noise for some columns of a sample, exactly as autofeat does if that takes at most ``most_bytes``."""
    if noise_bytes(len(columns), len(sample)) <= most_bytes:
        return DrawnNoise(data, columns, sample, random)
    return StreamedNoise(data, columns, sample, random)


class DrawnNoise:
    """Noise from autofeat's own random streams, held in memory."""

    def __init__(
        self, data: Standardised, columns: Sequence[int], sample: Sample, random: np.random.RandomState
    ) -> None:
        shuffled = n_shuffled(len(columns), len(sample))
        self.shuffled = np.empty((len(sample), shuffled), dtype=np.float32)
        if shuffled:
            self._fill(data, columns, sample)
            random.shuffle(self.shuffled.reshape(-1))
        scales = [moments(column) for column in self.shuffled.T]
        self.mean = np.array([mean for mean, _ in scales])
        self.std = np.array([std for _, std in scales])
        self.gaussian = random.randn(len(sample), n_gaussian(len(columns)))

    def _fill(self, data: Standardised, columns: Sequence[int], sample: Sample) -> None:
        for positions in sample.chunks(PIECE_ROWS):
            self.shuffled[positions] = data.gather(columns, sample.rows[positions]).T

    def __len__(self) -> int:
        return self.shuffled.shape[1] + self.gaussian.shape[1]

    def at(self, positions: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the columns at some positions of the sample."""
        block = np.empty((len(self), len(positions)))
        shuffled = self.shuffled.shape[1]
        if shuffled:
            block[:shuffled] = ((self.shuffled[positions] - self.mean) / self.std).T
        block[shuffled:] = self.gaussian[positions].T
        return block


class StreamedNoise:
    """Noise that is made again, alike, whenever it is asked for; of it, only one piece is held.

    Its numbers are not those of autofeat's stream, their distribution is.
    """

    def __init__(
        self, data: Standardised, columns: Sequence[int], sample: Sample, random: np.random.RandomState
    ) -> None:
        self.data = data
        self.columns = columns
        self.sample = sample
        self.seed = [int(word) for word in random.randint(0, 2**31 - 1, size=4)]
        self.n_shuffled = n_shuffled(len(columns), len(sample))
        self.n_gaussian = n_gaussian(len(columns))
        self.rank = np.empty(len(sample), dtype=np.intp)
        self.rank[sample.ranked] = np.arange(len(sample))
        self.held: tuple[int, NDArray[np.float32]] | None = None
        self.std = self._spread()

    def __len__(self) -> int:
        return self.n_shuffled + self.n_gaussian

    def _spread(self) -> NDArray[np.float64]:
        total = np.zeros(self.n_shuffled)
        squares = np.zeros(self.n_shuffled)
        for piece in range(-(-len(self.sample) // PIECE_ROWS)):
            values = self._shuffled(piece, self._generator(piece)).astype(np.float64)
            total += values.sum(axis=1)
            squares += np.square(values).sum(axis=1)
        size = len(self.sample)
        spread: NDArray[np.float64] = np.sqrt(squares / size - np.square(total / size))
        return spread

    def _generator(self, piece: int) -> np.random.Generator:
        return np.random.Generator(np.random.SFC64(np.random.SeedSequence([*self.seed, piece])))

    def _shuffled(self, piece: int, generator: np.random.Generator) -> NDArray[np.float32]:
        positions = self.sample.ranked[piece * PIECE_ROWS : (piece + 1) * PIECE_ROWS]
        if not self.n_shuffled:
            return np.empty((0, len(positions)), dtype=np.float32)
        values = self.data.gather(self.columns, self.sample.rows[positions]).astype(np.float32)
        generator.shuffle(values.reshape(-1))
        return values

    def _made(self, piece: int) -> NDArray[np.float32]:
        held = self.held  # another thread may put another piece there
        if held is None or held[0] != piece:
            generator = self._generator(piece)
            shuffled = self._shuffled(piece, generator)
            shuffled /= self.std[:, np.newaxis].astype(np.float32)
            gaussian = generator.standard_normal((self.n_gaussian, shuffled.shape[1]), dtype=np.float32)
            held = self.held = piece, np.concatenate([shuffled, gaussian])
        return held[1]

    def at(self, positions: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the columns at some positions of the sample."""
        block = np.empty((len(self), len(positions)))
        pieces, places = np.divmod(self.rank[positions], PIECE_ROWS)
        for piece in np.unique(pieces):
            mine = pieces == piece
            block[:, mine] = self._made(int(piece))[:, places[mine]]
        return block


class PermutedNoise:
    """The rows of other noise in another order."""

    def __init__(self, noise: Noise, permutation: NDArray[np.intp]) -> None:
        self.noise = noise
        self.permutation = permutation

    def __len__(self) -> int:
        return len(self.noise)

    def at(self, positions: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the columns at some positions of the permuted sample."""
        return self.noise.at(self.permutation[positions])
