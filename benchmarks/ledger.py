"""The machine's ledger: how many leases a second, how late under contention, and how soon a waiter is woken.

Processes ask for memory and give it back as fast as they can, on a ledger of their own and a machine of a stated size,
so that nothing but the ledger is measured. A plain SQLite transaction on the same file system is the measure beside it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import _common
from _common import Figure

_PAIRS_A_SECOND = 2000
_LATEST_S = 0.025
_LATEST_WAKE_S = 0.030

_PREAMBLE = """
import json, sys, time
from pathlib import Path
from memguard.ledger.book import LedgerBook, Wish
from memguard.ledger.records import Room
from memguard.ledger.waiting import acquire
MIB = 2**20
book = LedgerBook(Path(sys.argv[1]), lambda: Room(1000 * MIB, 1000 * MIB, "the benchmark"))
"""
_PAIRS = f"""{_PREAMBLE}
name, count, taken = sys.argv[2], int(sys.argv[3]), []
print("ready", flush=True)
sys.stdin.readline()
for number in range(count):
    began = time.perf_counter()
    book.ask(Wish(f"{{name}}.{{number}}", name, MIB))
    book.release(f"{{name}}.{{number}}")
    taken.append(time.perf_counter() - began)
print(json.dumps(taken))
"""
# Two processes that hand one lease to each other: each notes when it gave back, and when it was granted.
_HANDING = f"""{_PREAMBLE}
name, count, granted, released = sys.argv[2], int(sys.argv[3]), [], []
print("ready", flush=True)
sys.stdin.readline()
for number in range(count):
    lease = acquire(book, Wish(f"{{name}}.{{number}}", name, 900 * MIB))
    granted.append(time.clock_gettime(time.CLOCK_MONOTONIC))
    while len(book.leases()) < 2 and number < count - 1:
        pass  # until the other one waits
    released.append(time.clock_gettime(time.CLOCK_MONOTONIC))
    lease.release()
print(json.dumps([granted, released]))
"""
_PLAIN = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1] + "/plain.sqlite", isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("PRAGMA synchronous = OFF")
connection.execute("CREATE TABLE t(a PRIMARY KEY, b)")
began = time.perf_counter()
for number in range(2000):
    for statement in ("INSERT INTO t VALUES (?1, 0)", "DELETE FROM t WHERE a = ?1"):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(statement, (number,))
        connection.execute("COMMIT")
print((time.perf_counter() - began) / 2000)
"""


def main() -> int:
    """Measure and print."""
    parser = _common.options(__doc__)
    parser.add_argument("--pairs", type=int, default=2000, help="leases of each process (default: 2000)")
    parser.add_argument("--hands", type=int, default=300, help="times a lease changes hands (default: 300)")
    parsed = parser.parse_args()
    figures = [plain(), *(pairs(count, parsed) for count in (1, 2, 4, 8)), wake(parsed)]
    return _common.finish("The machine's ledger", figures, parsed)


def plain() -> Figure:
    """Time two plain transactions, what a lease needs at least."""
    with _Folder() as folder:
        words = [sys.executable, "-c", _PLAIN, str(folder)]
        each_s = float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return Figure(
        "two plain transactions of the sqlite3 module", f"{each_s * 1e6:.0f} us", data={"seconds": each_s}
    )


def pairs(processes: int, parsed: argparse.Namespace) -> Figure:
    """Let so many processes ask and release at once."""
    with _Folder() as folder:
        answers = _together(
            _PAIRS, folder, [(f"p{number}", str(parsed.pairs)) for number in range(processes)]
        )
    taken = sorted(each for answer in answers for each in answer)
    rate = processes * parsed.pairs / max(sum(answer) for answer in answers)
    middle, late = taken[len(taken) // 2], taken[int(len(taken) * 0.99)]
    is_met = rate >= _PAIRS_A_SECOND and (processes > 1 or late <= _LATEST_S)
    aim = f">= {_PAIRS_A_SECOND} a second" + (f", p99 <= {1000 * _LATEST_S:.0f} ms" if processes == 1 else "")
    return Figure(
        f"leases asked for and released, {processes} process{'es' if processes > 1 else ''}",
        f"{rate:.0f} a second; p50 {middle * 1000:.2f} ms, p99 {late * 1000:.2f} ms",
        aim,
        is_met,
        {"pairs_a_second": rate, "p50_s": middle, "p99_s": late},
    )


def wake(parsed: argparse.Namespace) -> Figure:
    """Measure from the release in one process to the grant in the other that waits for it."""
    with _Folder() as folder:
        answers = _together(_HANDING, folder, [(name, str(parsed.hands)) for name in "ab"])
    events = sorted(
        [(at, "granted") for granted, _ in answers for at in granted]
        + [(at, "released") for _, released in answers for at in released]
    )
    taken = sorted(
        later - earlier
        for (earlier, what), (later, then) in itertools.pairwise(events)
        if (what, then) == ("released", "granted")
    )
    middle, late = taken[len(taken) // 2], taken[int(len(taken) * 0.99)]
    return Figure(
        "from a release to the grant of who waits in another process",
        f"p50 {middle * 1000:.2f} ms, p99 {late * 1000:.2f} ms of {len(taken)}",
        f"p99 <= {1000 * _LATEST_WAKE_S:.0f} ms",
        late <= _LATEST_WAKE_S,
        {"p50_s": middle, "p99_s": late},
    )


def _together(program: str, folder: Path, arguments: list[tuple[str, str]]) -> list[list[float]]:
    """Run a program several times at once, from a common start; returns what each printed."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(folder), *each],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_common.python_environment(),
        )
        for each in arguments
    ]
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [json.loads(process.communicate()[0]) for process in started]


class _Folder:
    """A folder on tmpfs, where a ledger is as a rule; removed afterwards."""

    def __enter__(self) -> Path:
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self._path = Path(tempfile.mkdtemp(dir=base))
        return self._path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._path)


if __name__ == "__main__":
    sys.exit(main())
