"""Working in parts: how many rows to take next so that a job stays inside its budget, and what else gives room.

Comes in: data that can be sliced, or an iterator of chunks, and the room that is left. Goes out: batches in order,
every row once. Does not reserve memory and does not measure it: the caller says what is free. Read ``batches.py``.
"""

from memguard.memory.batches import BatchHooks, iterate_batches, map_batches
from memguard.memory.cache import ByteCache, CacheStatistics
from memguard.memory.controller import BatchController, BatchDecision, BatchReason, PastBatches
from memguard.memory.results import BatchFailure, BatchResult
from memguard.memory.shedding import Sheddable, ShedResult, Sheds, register_sheddable, shed_all, shed_each
from memguard.memory.state import StateDifference

__all__ = [
    "BatchController",
    "BatchDecision",
    "BatchFailure",
    "BatchHooks",
    "BatchReason",
    "BatchResult",
    "ByteCache",
    "CacheStatistics",
    "PastBatches",
    "ShedResult",
    "Sheddable",
    "Sheds",
    "StateDifference",
    "iterate_batches",
    "map_batches",
    "register_sheddable",
    "shed_all",
    "shed_each",
]
