"""Batches of rows whose size follows the memory that is left.

Comes in: a frame, an array, an Arrow table, any sequence, or an iterator of chunks. Goes out: slices of it, or what a
function made of them, in order, every row exactly once. A `Cursor` knows where the work is and a `BatchController` how
much comes next; here both meet the job, whose `BatchHooks` measure.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import index
from typing import Any, SupportsIndex, TypeVar

from memguard.errors import BatchError, DataError
from memguard.guard.pressure import Pressure
from memguard.memory.controller import BatchController, BatchDecision, BatchReason, PastBatches
from memguard.memory.cursor import Cursor, Span
from memguard.memory.results import BatchFailure, BatchResult, empty_frames, strip_frames, words_of
from memguard.memory.rows import row_count, row_weight_bytes

__all__ = ["BatchHooks", "iterate_batches", "map_batches"]

T = TypeVar("T")


def _ignore(_: object) -> None:
    """Hear something, and do nothing."""


@dataclass(frozen=True, slots=True)
class BatchHooks:
    """What batches ask of the job that they belong to, and tell it.

    Attributes:
        free_bytes: what may still be used.
        used_bytes: what is used now.
        peak_bytes: the highest use seen since it was asked last: what a batch needed may be free again at its end.
        pressure: how short the machine's memory is.
        checkpoint: called before each batch; may raise.
        on_batch: told the rows of each batch after it was worked on.
        on_decision: told each decision on the size.
        on_failure: told of each batch that failed and is left out.
        past: what batches of past work of the kind took; ``None`` where nobody knows.
    """

    free_bytes: Callable[[], int]
    used_bytes: Callable[[], int]
    peak_bytes: Callable[[], int]
    pressure: Callable[[], Pressure] = lambda: Pressure.NORMAL
    checkpoint: Callable[[], None] = lambda: None
    on_batch: Callable[[int], None] = _ignore
    on_decision: Callable[[BatchDecision], None] = _ignore
    on_failure: Callable[[BatchFailure], None] = _ignore
    past: PastBatches | None = None


def iterate_batches(
    data: Any, hooks: BatchHooks, *, rows: int | None = None, bytes_per_row: float | None = None
) -> Iterator[Any]:
    """Yield ``data`` in slices.

    Args:
        data: has rows: a frame or series (``iloc``), an Arrow table (``slice``), an array or sequence (``len``); or
            an iterator of chunks, never read ahead, whose chunks come as they are, larger ones in parts.
        hooks: the job.
        rows: a fixed batch size, or ``None`` to adapt.
        bytes_per_row: what working on a row is thought to cost; ``None`` to begin with what past work of
            the kind took, or with what it weighs.

    Raises:
        DataError: at the first batch, for sizes and costs that are none.
    """
    work = _Work(data, hooks, rows, bytes_per_row)
    # Nothing here keeps a batch: while one is made, the one before it is gone if the caller let go of it.
    while (span := work.next_span()) is not None:
        yield work.cursor.give_away(span)
        work.finish(span)


def map_batches(
    function: Callable[[Any], T],
    data: Any,
    hooks: BatchHooks,
    *,
    rows: int | None = None,
    bytes_per_row: float | None = None,
    keep_failures: bool = False,
) -> Iterator[BatchResult[T] | BatchFailure]:
    """Yield what ``function`` makes of each batch.

    A batch that runs out of memory is let go of and done again in halves, down to one row. The arguments are those of
    `iterate_batches`; chunks are cut only where their length counts rows (see `can_be_cut`).

    Raises:
        BatchError: for the first batch that fails otherwise, unless failures are kept.
    """
    work = _Work(data, hooks, rows, bytes_per_row)
    while (span := work.next_span()) is not None:
        told = work.attempt(function, span, keep_failures=keep_failures)
        while told:  # taken out, so that a result is the caller's alone
            yield told.pop()


class _Work:
    """A walk through data: the cursor, the size, and what the last batch cost."""

    def __init__(self, data: Any, hooks: BatchHooks, rows: int | None, bytes_per_row: float | None) -> None:
        self._fixed = None if rows is None else _checked_rows(rows)
        self._predicted = None if bytes_per_row is None else _checked_cost(bytes_per_row)
        self._hooks = hooks
        self.cursor = Cursor(data)
        self._controller: BatchController | None = None

    def next_span(self) -> Span | None:
        """Return the next rows to work on, behind a checkpoint; ``None`` at the end."""
        if not self.cursor.advance():
            return None
        span = self.cursor.take(self._fixed or self._controlled().rows)
        self._hooks.checkpoint()
        if self._controller is not None:
            self._used_before, _ = self._hooks.used_bytes(), self._hooks.peak_bytes()
        return span

    def _controlled(self) -> BatchController:
        if self._controller is None:
            self._controller = BatchController(
                row_weight_bytes(self.cursor.chunk),
                self._hooks.free_bytes(),
                row_count(self.cursor.chunk) if self.cursor.has_all else None,
                predicted_bytes=self._predicted,
                pressure=self._hooks.pressure(),
                past=self._hooks.past,
            )
            self._hooks.on_decision(self._controller.started)
        return self._controller

    def finish(self, span: Span) -> None:
        """Count a batch that was worked on, and size the next one."""
        self._hooks.on_batch(span.rows)
        self.cursor.let_go()
        if self._controller is None or self.cursor.is_at_end:
            return
        cost_bytes = max(self._hooks.used_bytes(), self._hooks.peak_bytes()) - self._used_before
        self._hooks.on_decision(
            self._controller.finished(span.rows, cost_bytes, self._hooks.free_bytes(), self._hooks.pressure())
        )

    def attempt(
        self, function: Callable[[Any], T], span: Span, *, keep_failures: bool
    ) -> list[BatchResult[T] | BatchFailure]:
        """Work on a batch; returns what there is to tell of it, nothing where it is to be done again in parts."""
        around = sys.exception()
        try:
            value = function(self.cursor.content(span))
        except Exception as error:
            where = empty_frames(error, around)
            if isinstance(error, MemoryError) and self.cursor.split(span):
                self._shrink(span)
                return []
            self.cursor.let_go()
            if not keep_failures:
                raise _batch_error(span, error, where) from error
            strip_frames(error, around)
            failure = BatchFailure(span.start, span.stop, error, where)
            self._hooks.on_failure(failure)
            return [failure]
        self.finish(span)
        return [BatchResult(span.start, span.stop, value)]

    def _shrink(self, span: Span) -> None:
        """Learn from a batch that ran out of memory; a fixed size is for that batch alone a smaller one."""
        free_bytes = self._hooks.free_bytes()
        if self._controller is not None:
            self._hooks.on_decision(self._controller.failed(span.rows, free_bytes))
            return
        halved = BatchDecision(span.rows, span.rows // 2, BatchReason.RETRIED, 0.0, free_bytes)
        self._hooks.on_decision(halved)


def _batch_error(span: Span, error: Exception, where: str) -> BatchError:
    remedy = (
        "it is too large even alone; give the job more memory (memory=)"
        if isinstance(error, MemoryError)
        else 'nothing behind it was worked on; on_error="keep" goes on with the other rows'
    )
    return BatchError(
        f"rows {span.start}:{span.stop} failed {where}: {words_of(error)}; {remedy}",
        start=span.start,
        stop=span.stop,
    )


def _checked_rows(rows: int) -> int:
    if not isinstance(rows, SupportsIndex) or isinstance(rows, bool) or index(rows) < 1:
        raise DataError(
            f"{rows!r:.40} is no size of a batch",
            subject="rows",
            remedy="give a whole number of rows, at least 1, or None to let the size follow the memory that is left",
        )
    return index(rows)


def _checked_cost(bytes_per_row: float) -> float:
    if not 0 < bytes_per_row < float("inf"):
        raise DataError(
            f"{bytes_per_row!r:.40} is no cost of a row",
            subject="bytes_per_row",
            remedy="give bytes, more than 0, or None to begin with what a row weighs",
        )
    return float(bytes_per_row)
