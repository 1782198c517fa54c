"""One job of the storm: fills its memory at full speed, holds it while it computes, and leaves a check value.

It is a program for those who run commands and a function for those who run functions, and imports next to nothing.
"""

from __future__ import annotations

import os
import sys
import time

__all__ = ["check_value", "work"]

_PAGE = 4096


def work(name: str, fill_bytes: int, cpu_s: float, folder: str) -> int:
    """Fill so many bytes, compute until so much processor time is used, write the check value and return it.

    Processor time, not time: who shares a core with others takes longer, as real work does.
    """
    began_s = time.process_time()
    held = bytearray(b"\x01") * fill_bytes
    while time.process_time() - began_s < cpu_s:
        sum(range(10_000))
    value = sum(held[::_PAGE])
    path = os.path.join(folder, f"{name}.done")
    with open(f"{path}.{os.getpid()}", "w") as file:
        file.write(str(value))
    os.replace(file.name, path)
    return value


def check_value(fill_bytes: int) -> int:
    """Return what a job that did its work writes."""
    return -(-fill_bytes // _PAGE)


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
