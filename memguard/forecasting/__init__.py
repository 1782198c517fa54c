"""Sizing jobs by what jobs like them used: likeness, the past, the forecast.

Comes in: a function with its arguments or a command line, and the store of episodes in which past jobs are written
down. Goes out: what to reserve and why, and after a job what the next one like it needs. The learning itself is
`memguard.estimate.OnlineEstimator`; this room tells jobs apart and brings it their past. Read forecaster.py first, then
past.py; calls.py and commands.py say which jobs are alike, and priors.py joins what first principles say.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from memguard.forecasting.calls import likeness_of_call, sizes_of
    from memguard.forecasting.commands import likeness_of_command
    from memguard.forecasting.forecaster import Forecaster, forecaster_for
    from memguard.forecasting.past import PastJob, past_of
    from memguard.forecasting.worlds import world_of_libraries

__all__ = [
    "Forecaster",
    "PastJob",
    "forecaster_for",
    "likeness_of_call",
    "likeness_of_command",
    "past_of",
    "sizes_of",
    "world_of_libraries",
]

# Imported when asked for: a wrapped command that nothing is known of starts with little of it.
_HOMES: Final = {
    "Forecaster": "forecaster",
    "PastJob": "past",
    "forecaster_for": "forecaster",
    "likeness_of_call": "calls",
    "likeness_of_command": "commands",
    "past_of": "past",
    "sizes_of": "calls",
    "world_of_libraries": "worlds",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
