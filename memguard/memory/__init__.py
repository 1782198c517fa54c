"""Working in parts: how many rows to take next so that a job stays inside its budget, and what else gives room.

Comes in: data that can be sliced, or an iterator of chunks, and the room that is left. Goes out: batches in order,
every row once. Does not reserve memory and does not measure it: the caller says what is free. Read ``batches.py``.
"""

from memguard.memory.batches import BatchHooks, iterate_batches, map_batches
from memguard.memory.controller import BatchController, BatchDecision, BatchReason
from memguard.memory.results import BatchFailure, BatchResult

__all__ = [
    "BatchController",
    "BatchDecision",
    "BatchFailure",
    "BatchHooks",
    "BatchReason",
    "BatchResult",
    "iterate_batches",
    "map_batches",
]
