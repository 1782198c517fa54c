"""A program that holds a lease for a process of its own, tells its use and obeys: the least that a guard can be.

Arguments: a JSON object. What the process is told on its stdin and answers on stdout goes past this program; what was asked
of the lease is appended to a file, a line each.
"""

from __future__ import annotations

import json
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
from memguard.ledger.records import Lease
from memguard.ledger.room import room_for
from memguard.units import MIB, Size, parse_size

# Takes what it is told to, in steps, and says when it has it.
HOG = """
import sys, time
kept = []
print("ready", flush=True)
for line in sys.stdin:
    mib, pause_s = line.split()
    for _ in range(int(mib)):
        kept.append(bytearray(1 << 20))
        if float(pause_s):
            time.sleep(float(pause_s))
    print("took", flush=True)
"""


@dataclass(frozen=True)
class Shares:
    """As the settings."""

    capacity: Size | None
    reserve: Size


def main() -> None:
    """Hold a lease until the process ends or is to be killed."""
    order = json.loads(sys.argv[1])
    capacity = parse_size(order["capacity"]) if order.get("capacity") else None
    shares = Shares(capacity, parse_size("0%" if order.get("no_reserve") else "5%"))
    folder = Path(order["folder"])
    with LedgerBook(folder, lambda: room_for(shares)) as book:
        lease = book.hold(Wish(order["name"], order["name"], order["mib"] * MIB, order.get("priority", 0)))
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", order.get("program", HOG), *order.get("arguments", ())]
        )
        ticks = start_ticks(process.pid)
        assert ticks is not None
        if not order.get("cooperative"):
            book.note_root(lease, process.pid, ticks, 2**40)
        try:
            _guard(order, book, lease, process, shares)
        finally:
            process.kill()
            process.wait()
            book.release(lease.lease_id)


def _guard(
    order: dict[str, object],
    book: LedgerBook,
    lease: Lease,
    process: subprocess.Popen[bytes],
    shares: Shares,
) -> None:
    folder, last = Path(str(order["folder"])), Ask.NOTHING
    while process.poll() is None:
        book.note_used(lease, private_bytes_of(process.pid) or 0)
        if order.get("sentinel", True):
            ensure_sentinel(shares, folder, book.domain, linger_s=float(str(order.get("linger_s", 1.0))))
        asked = book.entry(lease).asked
        if asked is not last:
            last = asked
            with open(folder / f"{lease.name}.asked", "a") as told:
                told.write(f"{asked.name}\n")
        if asked is Ask.KILL and order.get("obeys", True):
            return
        time.sleep(0.02)


if __name__ == "__main__":
    main()
