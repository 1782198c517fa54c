"""Working in parts: how many rows to take next so that a job stays inside its budget.

Comes in: data that can be sliced, or an iterator of chunks, and the room that is left. Goes out: batches in order,
every row once. Does not reserve memory and does not measure it: the caller says what is free. Read ``batches.py``.
"""

from memguard.memory.batches import BatchSizer, iterate_batches

__all__ = ["BatchSizer", "iterate_batches"]
