"""Ledgers for tests: in a folder of their own, on a machine whose size the test says."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from memguard.ledger.book import LedgerBook, Wish
from memguard.ledger.records import Lease, Room
from memguard.units import MIB

CAPACITY = 1000 * MIB
ROOT = Path(__file__).resolve().parents[2]
# What programs of tests begin with: a book on the same ledger, `ask`, `hold` and the size of things.
PREAMBLE = """
import os, signal, sys
from pathlib import Path
from memguard.ledger.book import LedgerBook, Wish
from memguard.ledger.records import Room
from memguard.ledger.waiting import acquire
MIB = 2**20
book = LedgerBook(Path(sys.argv[1]), lambda: Room(1000 * MIB, 1000 * MIB, "the test"))
"""


def book_in(folder: Path, capacity_bytes: int = CAPACITY, available_bytes: int | None = None) -> LedgerBook:
    """Return a book on the ledger of a folder, on a machine where nothing else uses memory unless it is said."""
    available = capacity_bytes if available_bytes is None else available_bytes
    return LedgerBook(folder, lambda: Room(capacity_bytes, available, "the test"))


def wish(name: str, mib: int, **more: object) -> Wish:
    """Return a wish of so many MiB, whose id is its name."""
    return Wish(name, name, mib * MIB, **more)  # type: ignore[arg-type]


def granted(leases: tuple[Lease, ...]) -> list[str]:
    """Return who holds memory."""
    return [lease.name for lease in leases if lease.is_granted]


def start(folder: Path, program: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a process with a book on the ledger; what it prints can be read, and it ends with its stdin."""
    words = [sys.executable, "-c", PREAMBLE + textwrap.dedent(program), str(folder), *arguments]
    return subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
