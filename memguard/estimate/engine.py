"""How much memory this project's engine needs for an AutoFeat fit, part by part: pure formulas over counts.

It needs less than it would like: columns that do not fit into its memory go to a scratch file. So there are two
figures: with all columns in memory, and the least with which it works. What it must hold in any case is the table, what
formulas and sums take, copies of rows where classes are selected for, and the model on the columns that are chosen,
which has all rows.

The factors were fitted to guarded jobs; ``benchmarks/autofeat.py --only forecast`` repeats the comparison, and
``docs/autofeat.md`` has its table.
"""

from __future__ import annotations

from typing import Final

from memguard.estimate.autofeat import AutoFeatCounts, AutoFeatRequest, column_bound
from memguard.estimate.records import Estimate
from memguard.estimate.shares import (
    LEAST_ENGINE_BYTES,
    budget_for,
    column_bytes,
    copied_bytes,
    engine_bytes,
    rows_selected_on,
    screened,
    selection_share,
    spilled_bytes,
)
from memguard.units import KIB, MIB, format_bytes

__all__ = ["IN_MEMORY", "LIGHT", "SPILLING", "estimate_engine"]

IN_MEMORY: Final = "in memory"
SPILLING: Final = "spilling"
LIGHT: Final = "light"

_FLOAT32: Final = 4
_FLOAT64: Final = 8
# A worker as it is forked, with what it reads into; what it imports late, and its kernels.
_WORKER_BYTES: Final = 12 * MIB
_ENGINE_BYTES: Final = 22 * MIB
# The table encoded, and as frames; expansion adds the given columns in standard units.
_TABLE_COPIES: Final = 3
_FORMULA_BYTES: Final = 4 * KIB
# Chunks of candidates: one for each thread and one more, of 2 MiB or a column.
_CHUNKS: Final = 3
_CHUNK_BYTES: Final = 2 * MIB
# What selection works with at most.
_SELECTION_BYTES: Final = 256 * MIB
_LEAST_SELECTION_BYTES: Final = 32 * MIB
# Sums of five folds, of four of them, and a path's own.
_SUMS: Final = 7
# Blocks of rows in float64, one for each thread.
_BLOCKS_BYTES: Final = 24 * MIB
# Rows in units of a float64: noise, and what a path of 500 steps leaves behind.
_ROW_VALUES: Final = 450
_ROW_VALUES_PER_COLUMN: Final = 2.7
# The model on the chosen columns: some tens of them, whatever was made; and copies of them. Below 40,000 rows it is
# scikit-learn's own, with error curves of up to a thousand points for each row of a fold.
_CHOSEN_COLUMNS: Final = 60
_CHOSEN_COPIES: Final = 3
_TALL_ROWS: Final = 40_000
_CURVE_VALUES: Final = 450
# Of what selection took, malloc and the linear algebra keep so much for good.
_LEFT_OVER: Final = 0.25
# And so much of what the model took, while rows are transformed.
_MODEL_LEFT_OVER: Final = 0.15
_BYTES_PER_TABLE_ROW: Final = 10
# A batch of rows with its new columns, and what is made of it on its way to the file.
_BATCH_BYTES: Final = 16 * MIB
_BATCH_COPIES: Final = 6
# How far the figures may be off; see the table in docs/autofeat.md.
_LOW_FRACTION: Final = 0.6
_HIGH_FRACTION: Final = 1.2
_HIGH_MARGIN_BYTES: Final = 32 * MIB


def estimate_engine(request: AutoFeatRequest, counts: AutoFeatCounts, budget_bytes: int) -> Estimate:
    """Return the predicted peak of a guarded job that fits with the engine and transforms the table in batches.

    Where not all columns fit into the budget it comes near it, for it keeps in memory what it can; ``scratch_bytes`` of
    ``inputs`` tells how much goes to disk then. It is beyond the budget only where the fit cannot be had at all.

    Args:
        request: the fit.
        counts: of its columns, from a pilot or `memguard.estimate.bound_counts`.
        budget_bytes: what the job may use.
    """
    counts = screened(request, counts)
    whole, least = _Parts(request, counts), _Parts(request, counts, LEAST_ENGINE_BYTES)
    memory_bytes = engine_bytes(budget_bytes, whole.own_bytes)
    used = _Parts(request, counts, memory_bytes)
    scratch = spilled_bytes(request, counts, memory_bytes)
    high = max(_high(least.peak_bytes), min(budget_bytes, _high(whole.peak_bytes)))
    if (copies := copied_bytes(request, counts)) > memory_bytes:
        high = max(high, budget_for(copies, whole.own_bytes))
    expected = min(max(used.peak_bytes, least.peak_bytes), high)
    return Estimate(
        low_bytes=int(expected * _LOW_FRACTION),
        expected_bytes=expected,
        high_bytes=high,
        reasons=_reasons(request, counts, used, scratch),
        inputs=_inputs(request, counts, scratch),
        phases=used.phases,
        plan=_plan(request, scratch),
    )


def _plan(request: AutoFeatRequest, scratch: int) -> str:
    if request.select_rows or request.most_columns:
        return LIGHT
    return SPILLING if scratch else IN_MEMORY


class _Parts:
    """What each part of the job holds at its peak.

    Args:
        request: the fit.
        counts: of its columns, screened.
        memory_bytes: what columns and selection may hold together; ``None`` for all that they can use.
    """

    def __init__(
        self, request: AutoFeatRequest, counts: AutoFeatCounts, memory_bytes: int | None = None
    ) -> None:
        self._request, self._counts = request, counts
        self._rows = rows_selected_on(request)
        self.columns_bytes = column_bytes(request, counts)
        selection = _SELECTION_BYTES
        if memory_bytes is not None:
            selection = selection_share(memory_bytes, copied_bytes(request, counts))
            self.columns_bytes -= spilled_bytes(request, counts, memory_bytes)
        self.selection_bytes = self._selection(max(_LEAST_SELECTION_BYTES // 2, selection))
        self.phases = self._phases()

    @property
    def peak_bytes(self) -> int:
        """The largest of them."""
        return max(self.phases.values())

    @property
    def own_bytes(self) -> int:
        """What is held all the time: the worker, the table and the numbers of its rows."""
        request = self._request
        table_rows = max(request.table_rows, request.rows)
        return _WORKER_BYTES + self.table_bytes + table_rows * _BYTES_PER_TABLE_ROW

    @property
    def table_bytes(self) -> int:
        """The rows fitted on, as they are read and encoded."""
        return self._request.rows * self._request.columns * _FLOAT64 * _TABLE_COPIES

    @property
    def model_bytes(self) -> int:
        """The model on the chosen columns, and the linear ones beside it."""
        rows = self._request.rows
        curves = _CURVE_VALUES if rows < _TALL_ROWS and not self._request.classes else 0
        return rows * _FLOAT64 * (self._chosen * _CHOSEN_COPIES + min(curves, 8 * self._chosen))

    @property
    def _chosen(self) -> int:
        return min(_CHOSEN_COLUMNS, self._counts.kept) + self._request.columns

    def _selection(self, memory_bytes: int) -> int:
        kept = self._counts.kept
        if copy := copied_bytes(self._request, self._counts):
            return copy * (2 if 2 * copy <= memory_bytes else 1)
        rows = self._rows * _FLOAT64 * int(min(_ROW_VALUES, _ROW_VALUES_PER_COLUMN * kept))
        blocks = min(_BLOCKS_BYTES, self._rows * kept * _FLOAT32)
        return min(memory_bytes, kept**2 * _FLOAT64 * _SUMS + rows + blocks)

    def _phases(self) -> dict[str, int]:
        request = self._request
        engine = self.own_bytes + _ENGINE_BYTES + self._counts.generated * _FORMULA_BYTES
        chunks = _CHUNKS * min(32 * self._rows * _FLOAT32, max(_CHUNK_BYTES, self._rows * _FLOAT32))
        left = self.own_bytes + _ENGINE_BYTES + int(_LEFT_OVER * self.selection_bytes)
        batch = min(_BATCH_BYTES, max(request.table_rows, request.rows) * _FLOAT64 * self._chosen)
        return {
            "read": _WORKER_BYTES + self.table_bytes // 2,
            "prepare": self.own_bytes,
            "expand": engine + self.columns_bytes + chunks,
            "select": engine + self.columns_bytes + self.selection_bytes,
            "fit": left + self.model_bytes,
            "transform": left
            - self.table_bytes
            + int(_MODEL_LEFT_OVER * self.model_bytes)
            + _BATCH_COPIES * batch,
        }


def _high(expected: int) -> int:
    return int(expected * _HIGH_FRACTION) + _HIGH_MARGIN_BYTES


def _inputs(request: AutoFeatRequest, counts: AutoFeatCounts, scratch: int) -> dict[str, int | str]:
    return {
        "engine": "memguard",
        "rows": request.rows,
        "columns": request.columns,
        "steps": request.steps,
        "transformations": request.transformations,
        "generated_columns": counts.generated,
        "kept_columns": counts.kept,
        "pilot_rows": counts.pilot_rows,
        "column_bound": column_bound(request.columns, request.steps, request.transformations),
        "scratch_bytes": scratch,
    }


def _reasons(
    request: AutoFeatRequest, counts: AutoFeatCounts, parts: _Parts, scratch: int
) -> tuple[str, ...]:
    origin = f"a pilot on {counts.pilot_rows:,} rows" if counts.pilot_rows else "a bound, no pilot"
    rows = rows_selected_on(request)
    matrix = format_bytes(rows * counts.kept * _FLOAT32)
    where = f"up to {format_bytes(scratch)} of it on disk" if scratch else "all of it in memory"
    peaks = ", ".join(f"{name} {format_bytes(peak)}" for name, peak in parts.phases.items())
    return (
        f"{request.columns} columns become {counts.generated:,}, {counts.kept:,} enter selection ({origin})",
        f"{rows:,} rows x {counts.kept:,} columns are a matrix of {matrix}, {where}",
        f"the worker, its table and its rows' numbers take {format_bytes(parts.own_bytes)}",
        f"the model on the chosen columns takes {format_bytes(parts.model_bytes)}",
        f"by part: {peaks}",
    )
