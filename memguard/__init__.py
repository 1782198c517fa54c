"""memguard: AutoML jobs in guarded, recyclable processes inside a memory budget.

Comes in: a function, a block of work or a command, and a budget. Goes out: its result and a report; or an error that
says who, how much, why now and what to do next. Names only here: each is loaded from its room when it is first
used, so that `import memguard` costs next to nothing. Read `memguard.manager` first.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from memguard.allocator import Reservation, ResourceAllocator
    from memguard.cleanup import CleanupManager
    from memguard.errors import (
        BatchError,
        CapacityExceeded,
        JobCrashed,
        JobError,
        JobInterrupted,
        JobLost,
        JobTimeout,
        MemguardError,
        MemoryLimitExceeded,
        ReservationTimeout,
    )
    from memguard.frontdoor import emergency_memory_cleanup, get_memory_status
    from memguard.guarding import guarded
    from memguard.leaks.detector import LeakDetector
    from memguard.leaks.monitor import MemoryMonitor
    from memguard.leaks.records import LeakReport
    from memguard.leaks.registry import ModelRegistry
    from memguard.managed import ManagedJob
    from memguard.manager import MemoryManager
    from memguard.memory.results import BatchFailure, BatchResult
    from memguard.memory.shedding import Sheddable, register_sheddable
    from memguard.report import JobReport, Outcome
    from memguard.version import __version__
    from memguard.worker.context import JobContext, current_job
    from memguard.worker.job import JobResult
    from memguard.worker.recorder import JobProgress

__all__ = [
    "BatchError",
    "BatchFailure",
    "BatchResult",
    "CapacityExceeded",
    "CleanupManager",
    "JobContext",
    "JobCrashed",
    "JobError",
    "JobInterrupted",
    "JobLost",
    "JobProgress",
    "JobReport",
    "JobResult",
    "JobTimeout",
    "LeakDetector",
    "LeakReport",
    "ManagedJob",
    "MemguardError",
    "MemoryLimitExceeded",
    "MemoryManager",
    "MemoryMonitor",
    "ModelRegistry",
    "Outcome",
    "Reservation",
    "ReservationTimeout",
    "ResourceAllocator",
    "Sheddable",
    "__version__",
    "current_job",
    "emergency_memory_cleanup",
    "get_memory_status",
    "guarded",
    "register_sheddable",
]

_HOMES: Final = {
    "memguard.allocator": ("Reservation", "ResourceAllocator"),
    "memguard.cleanup": ("CleanupManager",),
    "memguard.errors": (
        "BatchError", "CapacityExceeded", "JobCrashed", "JobError", "JobInterrupted", "JobLost", "JobTimeout",
        "MemguardError", "MemoryLimitExceeded", "ReservationTimeout",
    ),
    "memguard.frontdoor": ("emergency_memory_cleanup", "get_memory_status"),
    "memguard.leaks.detector": ("LeakDetector",),
    "memguard.leaks.monitor": ("MemoryMonitor",),
    "memguard.leaks.records": ("LeakReport",),
    "memguard.leaks.registry": ("ModelRegistry",),
    "memguard.managed": ("ManagedJob",),
    "memguard.guarding": ("guarded",),
    "memguard.manager": ("MemoryManager",),
    "memguard.memory.results": ("BatchFailure", "BatchResult"),
    "memguard.memory.shedding": ("Sheddable", "register_sheddable"),
    "memguard.report": ("JobReport", "Outcome"),
    "memguard.version": ("__version__",),
    "memguard.worker.context": ("JobContext", "current_job"),
    "memguard.worker.job": ("JobResult",),
    "memguard.worker.recorder": ("JobProgress",),
}  # fmt: skip
_HOME_OF: Final = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
