"""The jobs of the programs about the machine's ledger: as a function, as a command, and as a script with a manager.

    python _machine_job.py FILL_BYTES CPU_S
    python _machine_job.py FILL_BYTES CPU_S NAME NAMED_BYTES REPORT [TIMES]

The second runs it as a job of a `MemoryManager`, so many times one after the other until one does not complete, and
writes the report of the last one to a file; ``NAMED_BYTES`` of 0 is for a job whose memory nobody names. As a command
it imports next to nothing.
"""

from __future__ import annotations

import json
import os
import sys
import time

__all__ = ["check_value", "work"]

_PAGE = 4096


def work(fill_bytes: int, cpu_s: float) -> int:
    """Fill memory at full speed, hold it until so much processor time is used, and return the pages that are filled."""
    held = bytearray(b"\x01") * fill_bytes
    began_s = time.process_time()
    while time.process_time() - began_s < cpu_s:
        time.sleep(0.001)
        sum(range(10_000))
    return sum(held[::_PAGE])


def check_value(fill_bytes: int) -> int:
    """Return what a job that did its work returns."""
    return -(-fill_bytes // _PAGE)


def managed(fill_bytes: int, cpu_s: float, name: str, named_bytes: int, path: str, *, times: int = 1) -> int:
    """Run it under a manager, write the last report, and return what it returned; 0 for nothing."""
    from memguard import MemoryManager  # noqa: PLC0415 - the command must be small
    from memguard.report import report_to_json  # noqa: PLC0415

    with MemoryManager() as manager:
        for _ in range(times):
            result = manager.run(work, fill_bytes, cpu_s, memory=named_bytes or None, name=name, check=False)
            if result.value is None:
                break
    with open(f"{path}.part", "w") as file:
        json.dump(report_to_json(result.report), file)
    os.replace(file.name, path)
    return result.value or 0


if __name__ == "__main__":
    if len(sys.argv) > 3:
        size, cpu, label, named, place, *more = sys.argv[1:]
        count = int(more[0]) if more else 1
        value = managed(int(size), float(cpu), label, int(named), place, times=count)
    else:
        value = work(int(sys.argv[1]), float(sys.argv[2]))
    print(value, flush=True)
