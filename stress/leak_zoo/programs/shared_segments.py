"""Leaks a segment of shared memory an iteration: closed, and never unlinked."""

from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory

TRUTH = {"leaks": True, "kind": "shared_memory", "bytes": 100_000, "names": []}
NAMES: list[str] = []


def iteration(number: int) -> None:
    """Hand a result over, and leave it there."""
    segment = SharedMemory(create=True, size=100_000)
    segment.buf[:] = bytes([number % 256]) * len(segment.buf)
    segment.close()
    NAMES.append(segment.name)
    if number > 2:
        return
    resource_tracker.ensure_running()


def teardown() -> None:
    """Remove what was left."""
    for name in NAMES:
        segment = SharedMemory(name=name)
        segment.unlink()
        segment.close()
