"""What a job will need, before it runs.

Comes in: a request as counts (rows, columns, steps), and what a pilot on a few rows showed. Goes out: an
`Estimate` with its spread, its parts and its reasons, what would fit a given budget, and what to leave out. This room
reads no machine, runs no job and reserves nothing. Read records.py first, then autofeat.py, and engine.py for
this project's own engine, shares.py for what that engine gets, light.py for what it leaves out; online.py for forecasts
that learn from jobs that have run.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from memguard.estimate.autofeat import (
        AutoFeatCounts,
        AutoFeatRequest,
        Fit,
        bound_counts,
        column_bound,
        estimate_autofeat,
        most_rows,
        rows_that_fit,
        what_fits,
    )
    from memguard.estimate.engine import LIGHT, estimate_engine
    from memguard.estimate.forecast import Influence, Learned, Lesson, Prediction
    from memguard.estimate.light import Relief, lightest_loss
    from memguard.estimate.online import OnlineEstimator
    from memguard.estimate.records import Estimate
    from memguard.estimate.shares import (
        FORMULAS_BYTES,
        column_bytes,
        copied_bytes,
        engine_bytes,
        selection_share,
        spilled_bytes,
    )

__all__ = [
    "FORMULAS_BYTES",
    "LIGHT",
    "AutoFeatCounts",
    "AutoFeatRequest",
    "Estimate",
    "Fit",
    "Influence",
    "Learned",
    "Lesson",
    "OnlineEstimator",
    "Prediction",
    "Relief",
    "bound_counts",
    "column_bound",
    "column_bytes",
    "copied_bytes",
    "engine_bytes",
    "estimate_autofeat",
    "estimate_engine",
    "lightest_loss",
    "most_rows",
    "rows_that_fit",
    "selection_share",
    "spilled_bytes",
    "what_fits",
]

# Imported when asked for: a wrapped command that nothing is known of starts without any of it.
_HOMES: Final = {
    "AutoFeatCounts": "autofeat",
    "AutoFeatRequest": "autofeat",
    "Estimate": "records",
    "FORMULAS_BYTES": "shares",
    "Fit": "autofeat",
    "Influence": "forecast",
    "LIGHT": "engine",
    "Learned": "forecast",
    "Lesson": "forecast",
    "OnlineEstimator": "online",
    "Prediction": "forecast",
    "Relief": "light",
    "bound_counts": "autofeat",
    "column_bound": "autofeat",
    "column_bytes": "shares",
    "copied_bytes": "shares",
    "engine_bytes": "shares",
    "estimate_autofeat": "autofeat",
    "estimate_engine": "engine",
    "lightest_loss": "light",
    "most_rows": "autofeat",
    "rows_that_fit": "autofeat",
    "selection_share": "shares",
    "spilled_bytes": "shares",
    "what_fits": "autofeat",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
