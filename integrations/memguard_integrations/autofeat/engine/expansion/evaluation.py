"""Candidates are computed and judged in chunks, on all processors, and come back in the order in which they went.

Comes in: candidates. Goes out: for each what becomes of it, and its values in a buffer that is good until the next
chunk is asked for. The values of one candidate are one thread's work from beginning to end, so the result does not
depend on how many threads there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Final, Self

import numpy as np

from memguard.units import MIB
from memguard_integrations.autofeat.engine import kernels
from memguard_integrations.autofeat.engine.columns import Floats
from memguard_integrations.autofeat.engine.expansion.candidates import Candidate
from memguard_integrations.autofeat.engine.expansion.decisions import (
    UNCORRELATED,
    Moments,
    has_variance,
    largest_parent_correlation,
)
from memguard_integrations.autofeat.engine.expansion.references import References
from memguard_integrations.autofeat.engine.expansion.symbols import is_sum
from memguard_integrations.autofeat.engine.kernels.operations import OPERATIONS

__all__ = ["Evaluation", "Judged"]

# Below this, handing a column to another thread costs more than computing it.
_SMALLEST_SHARED_BYTES: Final = 32 * 1024
_CHUNK_BYTES: Final = 2 * MIB
_LARGEST_CHUNK: Final = 32


@dataclass(slots=True, eq=False)
class Judged:
    """What became of a candidate.

    Attributes:
        candidate: the one.
        values: its column, in a buffer that is used again; ``None`` if it is dropped.
        moments: of the values.
        has_formula: whether autofeat lists its formula: little correlated with its parents, and no sum.
        is_kept: whether it is a column of the result: that, and unlike all given columns.
    """

    candidate: Candidate
    values: Floats | None = None
    moments: Moments | None = None
    has_formula: bool = False
    is_kept: bool = False


class Evaluation:
    """Computes and judges candidates; its threads end with the block.

    Args:
        n_rows: length of the columns.
        references: the given columns.
        threads: how many compute at once, at least 1.
    """

    def __init__(self, n_rows: int, references: References, threads: int) -> None:
        column_bytes = max(1, 4 * n_rows)
        self._n_rows = n_rows
        self._references = references
        self._size = max(1, min(_LARGEST_CHUNK, _CHUNK_BYTES // column_bytes))
        self._threads = threads if column_bytes >= _SMALLEST_SHARED_BYTES else 1
        self._buffers: list[Floats] = []
        self._executor: ThreadPoolExecutor | None = None

    @property
    def buffer_bytes(self) -> int:
        """How much memory its buffers take at most."""
        return self._size * self._n_rows * 4 * (self._threads + 1)

    def __enter__(self) -> Self:
        if self._threads > 1:
            self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="memguard-expansion")
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
        self._buffers.clear()

    def judged(self, candidates: Iterable[Candidate]) -> Iterator[Judged]:
        """Yield the candidates in their order, each with what became of it."""
        waiting: deque[tuple[Future[list[Judged]], Floats]] = deque()
        source = iter(candidates)
        while chunk := list(islice(source, self._size)):
            if len(waiting) > self._threads:
                yield from self._finished(*waiting.popleft())
            buffer = self._buffers.pop() if self._buffers else self._new_buffer()
            work = [(each, tuple(parent.values for parent in each.parents)) for each in chunk]
            waiting.append((self._start(work, buffer), buffer))
            if self._executor is None:
                yield from self._finished(*waiting.popleft())
        while waiting:
            yield from self._finished(*waiting.popleft())

    def _new_buffer(self) -> Floats:
        return np.empty((self._size, self._n_rows), dtype=np.float32)

    def _finished(self, future: Future[list[Judged]], buffer: Floats) -> Iterator[Judged]:
        yield from future.result()
        self._buffers.append(buffer)

    def _start(
        self, work: list[tuple[Candidate, tuple[Floats, ...]]], buffer: Floats
    ) -> Future[list[Judged]]:
        if self._executor is not None:
            return self._executor.submit(self._judge, work, buffer)
        future: Future[list[Judged]] = Future()
        future.set_result(self._judge(work, buffer))
        return future

    def _judge(self, work: list[tuple[Candidate, tuple[Floats, ...]]], buffer: Floats) -> list[Judged]:
        all_judged, asked, shifts = [], [], []
        for place, (each, parents) in enumerate(work):
            judged, shift = _compute(each, parents, buffer[place])
            all_judged.append(judged)
            if judged.has_formula:
                asked.append(place)
                shifts.append(shift)
        if asked:
            moments = [moments for place in asked if (moments := all_judged[place].moments) is not None]
            answers = self._references.is_unlike(buffer, asked, shifts, moments)
            for place, answer in zip(asked, answers, strict=True):
                all_judged[place].is_kept = answer
        return all_judged


def _compute(candidate: Candidate, parents: tuple[Floats, ...], out: Floats) -> tuple[Judged, float]:
    """Compute a candidate and judge it by itself and by its parents."""
    sums = np.empty(kernels.SUMS)
    known = [parent.moments for parent in candidate.parents]
    kernels.candidate(
        OPERATIONS[candidate.operation], parents[0], parents[-1], known[0].mean, known[-1].mean, out, sums
    )
    dropped = Judged(candidate)
    shift, first, second, *products, is_finite = sums.tolist()
    if not is_finite or not len(out):
        return dropped, 0.0
    moments = Moments.of_sums(len(out), shift, first, second)
    if not has_variance(out, moments):
        return dropped, 0.0
    correlation = largest_parent_correlation(
        out, moments, tuple(products[: len(known)]), tuple(zip(parents, known, strict=True))
    )
    if not correlation < 1.0:
        return dropped, 0.0
    has_formula = correlation < UNCORRELATED and not is_sum(candidate.formula)
    return Judged(candidate, out, moments, has_formula), shift
