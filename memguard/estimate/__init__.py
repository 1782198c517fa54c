"""What a job will need, before it runs.

Comes in: a request as counts (rows, columns, steps), and what a pilot on a few rows showed. Goes out: an
`Estimate` with its spread and its reasons, and what would fit a given budget. This room reads no machine,
runs no job and reserves nothing. Read records.py first, then autofeat.py, and engine.py for
this project's own engine.
"""

from memguard.estimate.autofeat import (
    AutoFeatCounts,
    AutoFeatRequest,
    Fit,
    bound_counts,
    column_bound,
    estimate_autofeat,
    rows_that_fit,
    what_fits,
)
from memguard.estimate.engine import estimate_engine
from memguard.estimate.records import Estimate

__all__ = [
    "AutoFeatCounts",
    "AutoFeatRequest",
    "Estimate",
    "Fit",
    "bound_counts",
    "column_bound",
    "estimate_autofeat",
    "estimate_engine",
    "rows_that_fit",
    "what_fits",
]
