"""Batches of a guarded piece of work: the calls that users make, and what is told of them.

Comes in: data, a function, and the hooks by which the work is measured. Goes out: slices or results in order, a count
for the report, a log line for each decision and an event for each change of size. `memguard.memory` decides and cuts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, TypeVar, overload

from memguard.errors import DataError
from memguard.log import get_logger
from memguard.memory import (
    BatchDecision,
    BatchFailure,
    BatchHooks,
    BatchReason,
    BatchResult,
    PastBatches,
    iterate_batches,
    map_batches,
)
from memguard.redact import redact_error
from memguard.report import BatchSummary
from memguard.sizing import Sizing

__all__ = ["BatchTeller", "InBatches", "past_batches"]

T = TypeVar("T")
_log: Final = get_logger(__name__)


class InBatches:
    """Work that can be done in batches; a base of what is measured and has checkpoints."""

    def _batch_hooks(self) -> BatchHooks:
        """Return what batches ask and tell; made for each walk, or the work would hold itself."""
        raise NotImplementedError

    def batches(
        self, data: Any, rows: int | None = None, *, bytes_per_row: float | None = None
    ) -> Iterator[Any]:
        """Yield ``data`` in slices, in order, every row once; a checkpoint stands before each.

        Args:
            data: a frame, series, array, Arrow table, sequence, or an iterator of chunks: those come as they are, and
                in parts where they are larger than a batch and their length counts rows for sure.
            rows: a fixed size, or ``None`` for one that follows the memory that is left.
            bytes_per_row: what working on a row is thought to cost; ``None`` to begin with what past jobs of the kind
                took for one, or with what it weighs.

        Raises:
            DataError: for a size or cost that is none.
            MemoryLimitExceeded: between two batches, if the job is over its budget.
        """
        yield from iterate_batches(data, self._batch_hooks(), rows=rows, bytes_per_row=bytes_per_row)

    @overload
    def map_batches(
        self,
        function: Callable[[Any], T],
        data: Any,
        rows: int | None = None,
        *,
        on_error: Literal["raise"] = "raise",
        bytes_per_row: float | None = None,
    ) -> Iterator[BatchResult[T]]: ...

    @overload
    def map_batches(
        self,
        function: Callable[[Any], T],
        data: Any,
        rows: int | None = None,
        *,
        on_error: Literal["keep"],
        bytes_per_row: float | None = None,
    ) -> Iterator[BatchResult[T] | BatchFailure]: ...

    def map_batches(
        self,
        function: Callable[[Any], T],
        data: Any,
        rows: int | None = None,
        *,
        on_error: Literal["raise", "keep"] = "raise",
        bytes_per_row: float | None = None,
    ) -> Iterator[BatchResult[Any]] | Iterator[BatchResult[Any] | BatchFailure]:
        """Yield what ``function`` makes of each batch, in order; every row is in one result or in one failure.

        A batch in which memory runs out (`MemoryError`) is let go of and done again in halves, down to one row: the
        function then sees those rows again, and its results come as several.

        Args:
            function: called with each batch.
            data: as for `batches`.
            rows: as for `batches`; a batch that is done again is smaller.
            on_error: ``"raise"`` ends at the first batch that fails otherwise, or at one row; ``"keep"`` yields a
                `BatchFailure` in its place, puts a warning into the report, and goes on.
            bytes_per_row: as for `batches`.

        Raises:
            BatchError: from what the function raised; the rows before it have had their results.
            DataError: for a size or cost that is none, or another ``on_error``.
            MemoryLimitExceeded: between two batches, if the job is over its budget.
        """
        if on_error not in ("raise", "keep"):
            raise DataError(f"{on_error!r} is none", subject="on_error", remedy='give "raise" or "keep"')
        keep = on_error == "keep"
        return map_batches(
            function, data, self._batch_hooks(), rows=rows, bytes_per_row=bytes_per_row, keep_failures=keep
        )


def past_batches(sizing: Sizing | None) -> PastBatches | None:
    """Return what batches of past jobs took, as a forecast has it; ``None`` where they worked in none."""
    if sizing is None or not sizing.batch_rows or not sizing.bytes_per_row:
        return None
    return PastBatches(sizing.bytes_per_row, sizing.batch_rows)


class BatchTeller:
    """Counts the batches of a job, and tells what was decided of them.

    Attributes:
        summary: the count so far.
    """

    def __init__(self, job_id: str, publish: Callable[..., None]) -> None:
        self._job_id, self._publish = job_id, publish
        self.summary = BatchSummary()

    def count(self, rows: int) -> None:
        """Count a batch that was worked on."""
        seen = self.summary
        smallest = min(seen.smallest_rows or rows, rows)
        self.summary = BatchSummary(seen.count + 1, seen.rows + rows, smallest, max(seen.largest_rows, rows))

    def decision(self, decision: BatchDecision) -> None:
        """Log a decision; only a change of size is an event."""
        fields: dict[str, str | int] = {
            "rows_before": decision.rows_before,
            "rows": decision.rows,
            "reason": decision.reason.value,
            "bytes_per_row": round(decision.bytes_per_row),
            "free_bytes": decision.free_bytes,
        }
        if decision.reason is BatchReason.RECALLED:
            _log.info("first batch sized by past jobs", job_id=self._job_id, **fields)
        _log.debug("batch size decided", job_id=self._job_id, **fields)
        if decision.is_change:
            self._publish("memguard.batch_resized", self._job_id, **fields)

    def failure(self, failure: BatchFailure) -> str:
        """Tell of rows that are left out; returns the words of a warning."""
        start, stop, error = failure.start, failure.stop, redact_error(failure.error)
        self._publish("memguard.batch_failed", self._job_id, start=start, stop=stop, error=error)
        return f"rows {start}:{stop} were left out, their batch failed: {error}"
