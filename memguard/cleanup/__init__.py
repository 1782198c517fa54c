"""cleanup: what has to be given back, in which order, by when, and whether it was.

Comes in: handlers that release something, and an occasion to run them. Goes out: a `CleanupReport` with one
result for each handler. It never swallows an error, never lets one handler keep another from running,
and does not know what the handlers release. Read manager.py first, then reports.py.
"""

from __future__ import annotations

from memguard.cleanup.handlers import CleanupHandle
from memguard.cleanup.manager import CleanupManager
from memguard.cleanup.reports import CleanupReport, HandlerOutcome, HandlerResult, Occasion
from memguard.cleanup.schedule import StopEvent

__all__ = [
    "CleanupHandle",
    "CleanupManager",
    "CleanupReport",
    "HandlerOutcome",
    "HandlerResult",
    "Occasion",
    "StopEvent",
]
