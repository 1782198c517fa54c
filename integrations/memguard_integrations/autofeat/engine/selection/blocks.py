"""The rows of a model, handed out in blocks of bounded size to as many threads as BLAS would use.

Each fold's rows go to one thread at a time and in one order, and BLAS runs single-threaded meanwhile: so sums are
the same to the last bit with one thread and with several, and no thread of BLAS waits for another on a busy machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from memguard_integrations.autofeat.engine.selection.noise import PIECE_ROWS, Noise, StreamedNoise
from memguard_integrations.autofeat.engine.selection.sample import N_FOLDS, Piece, Sample
from memguard_integrations.autofeat.engine.selection.standard import Standardised

__all__ = ["BLOCK_BYTES", "Block", "Design", "Rows", "for_each_block", "one_blas_thread"]

Matrix = NDArray[np.float64]
# Bytes of one block of float64 values, of which each thread has one; larger ones make the sums hardly faster.
BLOCK_BYTES = 8 << 20
SMALLEST_CHUNK = 512


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows that a model learns from.

    ``target`` has the value of every position of the sample, shape (len(sample),). ``on_step`` is called between
    bounded steps. ``threads`` is how many may work at once, >= 1.
    """

    data: Standardised
    sample: Sample
    target: Matrix
    on_step: Callable[[], None]
    block_bytes: int = BLOCK_BYTES
    threads: int = 1

    def permuted(self, permutation: NDArray[np.intp]) -> Rows:
        """Return the same rows in another order."""
        return replace(self, sample=self.sample.permuted(permutation), target=self.target[permutation])


@dataclass(frozen=True, slots=True)
class Design:
    """The columns of a model: real ones by index, then noise."""

    columns: NDArray[np.intp]
    noise: Noise | None = None

    @property
    def n_noise(self) -> int:
        """Noise columns."""
        return 0 if self.noise is None else len(self.noise)

    def __len__(self) -> int:
        return len(self.columns) + self.n_noise


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one fold: real columns, noise columns, both shape (columns, rows), and the target."""

    fold: int
    real: Matrix
    noise: Matrix
    target: Matrix


def for_each_block(rows: Rows, design: Design, work: Callable[[Block], None]) -> None:
    """Hand all rows of a design to ``work``, in the order in which they are stored.

    Blocks of different folds may be worked on at once.
    """
    with ThreadPoolExecutor(rows.threads) as pool:
        for positions in rows.sample.chunks(_chunk_rows(rows, design)):
            rows.on_step()
            for _ in pool.map(partial(_work_on, rows, design, work), rows.sample.pieces(positions)):
                pass


def _work_on(rows: Rows, design: Design, work: Callable[[Block], None], piece: Piece) -> None:
    real = rows.data.gather(design.columns.tolist(), piece.rows)
    noise = np.empty((0, len(piece.rows))) if design.noise is None else design.noise.at(piece.positions)
    work(Block(piece.fold, real, noise, rows.target[piece.positions]))


def _chunk_rows(rows: Rows, design: Design) -> int:
    if isinstance(design.noise, StreamedNoise):
        return PIECE_ROWS  # noise that is made in pieces should be made once
    return max(SMALLEST_CHUNK, N_FOLDS * rows.block_bytes // (8 * max(1, len(design))))


@contextmanager
def one_blas_thread() -> Iterator[int]:
    """Let BLAS use one thread; yield how many it would have used."""
    blas = ThreadpoolController().select(user_api="blas")
    threads = max((int(library["num_threads"]) for library in blas.info()), default=1)
    with blas.limit(limits=1):
        yield threads
