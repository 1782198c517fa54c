"""How this project's engine divides what its job may use: what it gets, selection's share, what goes to disk. Pure.

The forecast before the start and the worker on the spot take the figures from here, so that what is let in is not
refused there.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from memguard.estimate.autofeat import AutoFeatCounts, AutoFeatRequest
from memguard.units import MIB

__all__ = [
    "FORMULAS_BYTES",
    "LEAST_ENGINE_BYTES",
    "budget_for",
    "column_bytes",
    "copied_bytes",
    "engine_bytes",
    "rows_selected_on",
    "screened",
    "selection_share",
    "spilled_bytes",
]

# The engine gets no less than this.
LEAST_ENGINE_BYTES: Final = 64 * MIB
# Formulas, and their names, beside the columns.
FORMULAS_BYTES: Final = 32 * MIB
# Of what is left of the budget; the rest is for the model on the chosen columns, and for the batches after it.
_ENGINE_SHARE: Final = 0.6
# What selection works with where there is more: sums of about 1500 columns. Columns gain by all that they get.
_MOST_FOR_SELECTION: Final = 256 * MIB
_SELECTION_PART: Final = 3
_FLOAT32: Final = 4
_FLOAT64: Final = 8
# The given columns as they are and in standard units, beside those that are made.
_FRAMES: Final = 2
# A run is made on 85 % of the rows, a fold trains on four fifths of those; noise comes beside the columns.
_FOLD_ROWS: Final = 0.85 * 0.8
_NOISE_COLUMNS: Final = 1.25


def engine_bytes(budget_bytes: int, used_bytes: int) -> int:
    """Return what the engine may hold.

    Args:
        budget_bytes: the job's.
        used_bytes: what the job holds when the engine begins.
    """
    return max(LEAST_ENGINE_BYTES, int((budget_bytes - used_bytes) * _ENGINE_SHARE))


def budget_for(wanted_bytes: int, used_bytes: int) -> int:
    """Return the budget of which the engine gets so much."""
    return used_bytes + math.ceil(wanted_bytes / _ENGINE_SHARE) + 1


def selection_share(memory_bytes: int, copies_bytes: int = 0) -> int:
    """Return what of a bound is for selection's work; the rest is for columns, which are held at the same time."""
    return min(memory_bytes, max(copies_bytes, min(_MOST_FOR_SELECTION, memory_bytes // _SELECTION_PART)))


def spilled_bytes(request: AutoFeatRequest, counts: AutoFeatCounts, memory_bytes: int) -> int:
    """Return how much of the columns goes to disk, where columns and selection may hold so much together."""
    share = selection_share(memory_bytes, copied_bytes(request, counts))
    frames = _FRAMES * rows_selected_on(request) * request.columns * _FLOAT64
    room = max(0, memory_bytes - share - FORMULAS_BYTES - frames)
    return max(0, column_bytes(request, counts) - room)


def column_bytes(request: AutoFeatRequest, counts: AutoFeatCounts) -> int:
    """Return what all columns take, wherever they are."""
    return rows_selected_on(request) * screened(request, counts).generated * _FLOAT32


def copied_bytes(request: AutoFeatRequest, counts: AutoFeatCounts) -> int:
    """Return what selection for classes copies at least, which no disk can hold for it; 0 for a regression."""
    if not request.classes:
        return 0
    kept = screened(request, counts).kept
    return int(_FLOAT64 * _FOLD_ROWS * rows_selected_on(request) * kept * _NOISE_COLUMNS)


def rows_selected_on(request: AutoFeatRequest) -> int:
    """Return how many rows columns are engineered and selected on."""
    return min(request.select_rows or request.rows, request.rows)


def screened(request: AutoFeatRequest, counts: AutoFeatCounts) -> AutoFeatCounts:
    """Return the counts where no more columns enter selection than a request takes."""
    most = request.most_columns
    if not most or most >= counts.kept:
        return counts
    return replace(counts, kept=most, generated=counts.generated - counts.kept + most)
