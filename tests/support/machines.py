"""Recorded machines, read as the real one is, and held against what the watcher makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memguard.host import MachineReading, read_machine
from memguard.host.watcher import MachineWatcher

if TYPE_CHECKING:
    from conftest import RecordedMachine


MIB = 1024**2


GIB = 1024**3


V1 = "/sys/fs/cgroup/memory"


V2 = "/sys/fs/cgroup"


def read(recorded: RecordedMachine, **arguments: int) -> MachineReading:
    reading = read_machine(root=recorded.root, **arguments)
    if not arguments:
        check_watcher_agrees(recorded, reading)
    return reading


def check_watcher_agrees(recorded: RecordedMachine, reading: MachineReading) -> None:
    """Hold that files which stay open tell the same of every recorded machine, at the first look and at the next."""
    with MachineWatcher(root=recorded.root) as watcher:
        for _ in range(2):
            seen = watcher.look()
            assert (seen.limits, seen.binding) == (reading.limits, reading.binding)
            assert (seen.available_bytes, seen.swap_free_bytes) == (
                reading.available_bytes,
                reading.swap_free_bytes,
            )


def sources(reading: MachineReading) -> list[tuple[str, int]]:
    return [(limit.source, limit.limit_bytes) for limit in reading.limits]
