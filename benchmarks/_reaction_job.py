"""One allocator of benchmarks/reaction.py, and the least that its guard can be: holds a lease, tells its use, obeys.

Arguments: the ledger's folder, a name, GiB a second (0 for full speed), how many bytes to take, how many to reserve. It
takes memory once it reads a line.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from memguard.guard.spawn import ensure_sentinel
from memguard.host import start_ticks
from memguard.host.process import private_bytes_of
from memguard.ledger.board import Ask
from memguard.ledger.book import LedgerBook, Wish
from memguard.ledger.room import room_for
from memguard.units import Size, parse_size

_ALLOCATOR = """
import ctypes, mmap, sys, time
rate, total = float(sys.argv[1]) * 2**30, int(sys.argv[2])
memory = mmap.mmap(-1, total, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
at = ctypes.addressof(ctypes.c_char.from_buffer(memory))
step = 1 << 20
if not sys.stdin.readline():
    sys.exit()  # its guard is gone
began = time.monotonic()
for done in range(0, total, step):
    ctypes.memset(at + done, 1, min(step, total - done))
    if rate and (left := began + (done + step) / rate - time.monotonic()) > 0:
        time.sleep(left)
time.sleep(600)
"""
# As often as the guards of `memguard run` look near a line.
_LOOK_S = 0.01


@dataclass(frozen=True, slots=True)
class _Shares:
    capacity: Size | None
    reserve: Size


_SHARES = _Shares(None, parse_size("5%"))


def main() -> None:
    """Hold a lease for an allocator until it is to be killed."""
    folder, name, rate, total, reserved = sys.argv[1:]
    with LedgerBook(Path(folder), lambda: room_for(_SHARES)) as book:
        lease = book.hold(Wish(name, name, int(reserved)))
        words = [sys.executable, "-I", "-S", "-c", _ALLOCATOR, rate, total]
        process = subprocess.Popen(words, stdin=subprocess.PIPE)
        assert process.stdin is not None
        ticks = start_ticks(process.pid)
        assert ticks is not None
        book.note_root(lease, process.pid, ticks, 2**40)
        ensure_sentinel(_SHARES, Path(folder), book.domain)
        while (sight := book.sight()) is None or not sight.is_fresh():
            time.sleep(_LOOK_S)
        print("ready", flush=True)
        sys.stdin.readline()
        process.stdin.write(b"go\n")
        process.stdin.flush()
        while book.entry(lease).asked is not Ask.KILL and process.poll() is None:
            book.note_used(lease, private_bytes_of(process.pid) or 0)
            time.sleep(_LOOK_S)
        process.kill()
        process.wait()
        book.release(lease.lease_id)


if __name__ == "__main__":
    main()
