"""How much memory this project's engine needs for an AutoFeat fit: pure formulas over counts.

It needs less than it would like: columns that do not fit into its memory go to a scratch file. So there are two
figures: with all columns in memory, and the least with which it works. What it must hold in any case is the table, what
formulas and sums take, and the model on the columns that are chosen, which has all rows.
"""

from __future__ import annotations

from typing import Final

from memguard.estimate.autofeat import AutoFeatCounts, AutoFeatRequest, column_bound
from memguard.estimate.records import Estimate
from memguard.units import KIB, MIB, format_bytes

__all__ = ["estimate_engine"]

_FLOAT32: Final = 4
_FLOAT64: Final = 8
# A worker as it is forked, what it imports late, and its kernels.
_WORKER_BYTES: Final = 70 * MIB
# The table as it is read, encoded and as frames.
_TABLE_COPIES: Final = 3
_FORMULA_BYTES: Final = 3 * KIB
# What selection works with at most; see `memguard_integrations.autofeat.engine.estimators.watching`.
_SELECTION_BYTES: Final = 256 * MIB
# Sums of five folds and the whole, and a path's own.
_SUMS: Final = 7
# The model on the chosen columns: some tens of them, whatever was made; scikit-learn copies them for each fold.
_CHOSEN_COLUMNS: Final = 60
_CHOSEN_COPIES: Final = 3
_LEAST_COLUMNS_BYTES: Final = 96 * MIB
_BYTES_PER_TABLE_ROW: Final = 10
# How far the figures may be off.
_LOW_FRACTION: Final = 0.6
_HIGH_FRACTION: Final = 1.2
_HIGH_MARGIN_BYTES: Final = 48 * MIB


def estimate_engine(request: AutoFeatRequest, counts: AutoFeatCounts, budget_bytes: int) -> Estimate:
    """Return the predicted peak of a guarded job that fits with the engine and transforms the table in batches.

    Where not all columns fit into the budget it comes near it, for it keeps in memory what it can; ``scratch_bytes`` of
    ``inputs`` tells how much goes to disk then. It is beyond the budget only where the fit cannot be had at all.

    Args:
        request: the fit.
        counts: of its columns, from a pilot or `memguard.estimate.bound_counts`.
        budget_bytes: what the job may use.
    """
    columns = request.rows * counts.generated * _FLOAT32
    fixed = _fixed_bytes(request, counts)
    whole = fixed + max(columns + _selection_bytes(request, counts), _model_bytes(request))
    least = _high(min(whole, fixed + max(_LEAST_COLUMNS_BYTES, _model_bytes(request))))
    spilled = _high(whole) > budget_bytes
    expected = min(whole, max(least, int(budget_bytes / _HIGH_FRACTION)))
    high = max(least, budget_bytes) if spilled else _high(whole)
    scratch = request.rows * counts.kept * _FLOAT32 if spilled else 0
    return Estimate(
        low_bytes=int(expected * _LOW_FRACTION),
        expected_bytes=expected,
        high_bytes=max(high, expected),
        reasons=_reasons(request, counts, fixed, scratch),
        inputs={
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
        },
    )


def _high(expected: int) -> int:
    return int(expected * _HIGH_FRACTION) + _HIGH_MARGIN_BYTES


def _fixed_bytes(request: AutoFeatRequest, counts: AutoFeatCounts) -> int:
    table = request.rows * request.columns * _FLOAT64 * _TABLE_COPIES
    rows = max(request.table_rows, request.rows) * _BYTES_PER_TABLE_ROW
    return _WORKER_BYTES + table + rows + counts.generated * _FORMULA_BYTES


def _selection_bytes(request: AutoFeatRequest, counts: AutoFeatCounts) -> int:
    return min(_SELECTION_BYTES, counts.kept**2 * _FLOAT64 * _SUMS + request.rows * _FLOAT64 * _SUMS)


def _model_bytes(request: AutoFeatRequest) -> int:
    return request.rows * min(_CHOSEN_COLUMNS, 8 * request.columns) * _FLOAT64 * _CHOSEN_COPIES


def _reasons(request: AutoFeatRequest, counts: AutoFeatCounts, fixed: int, scratch: int) -> tuple[str, ...]:
    origin = f"a pilot on {counts.pilot_rows:,} rows" if counts.pilot_rows else "a bound, no pilot"
    matrix = format_bytes(request.rows * counts.kept * _FLOAT32)
    where = f"up to {format_bytes(scratch)} of it on disk" if scratch else "all of it in memory"
    return (
        f"{request.columns} columns become {counts.generated:,}, {counts.kept:,} enter selection ({origin})",
        f"{request.rows:,} rows x {counts.kept:,} columns are a matrix of {matrix}, {where}",
        f"the worker, its table and formulas take {format_bytes(fixed)}",
        f"the model on the chosen columns takes {format_bytes(_model_bytes(request))}",
    )
