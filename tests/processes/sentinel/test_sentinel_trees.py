"""What the sentinel takes a job's use to be, between two words of the job's own guard."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from memguard.guard.trees import Trees
from memguard.host import identify
from memguard.host.process import private_bytes_of
from memguard.ledger.board import Entry
from memguard.ledger.records import Lease
from memguard.units import MIB

TAKEN = 64 * MIB
# Holds memory until it reads a line, and then holds none until it reads another.
PROGRAM = f"""
import sys
held = bytearray({TAKEN})
for _ in range(2):
    print("ready", flush=True)
    sys.stdin.readline()
    held = None
"""


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[str]]:
    """A process that has taken memory."""
    words = [sys.executable, "-IS", "-c", PROGRAM]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def trees() -> Iterator[Trees]:
    """A fresh one."""
    made = Trees()
    yield made
    made.close()


def lease_of(process: subprocess.Popen[str]) -> Lease:
    return Lease("one", identify(process.pid), "one", 2 * TAKEN, 0, 0, 0.0, 1.0, "", 0, 1)


def let_go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    process.stdout.readline()


def test_memory_given_back_is_seen_before_the_guard_tells(
    holder: subprocess.Popen[str], trees: Trees
) -> None:
    """A block that frees what it was told to use is seen to use less at once, as the machine's figure is."""
    lease = lease_of(holder)
    entry = Entry(private_bytes_of(holder.pid) or 0)
    trees.keep([(lease, entry)])
    assert trees.used_bytes(lease, entry, anew=True, shares_owner=False) >= TAKEN
    let_go(holder)
    assert trees.used_bytes(lease, entry, anew=True, shares_owner=False) < TAKEN // 2


def test_a_tree_that_has_ended_uses_nothing(holder: subprocess.Popen[str], trees: Trees) -> None:
    """Once a job's last process is gone its use is nothing, though its guard has not told so yet."""
    lease = lease_of(holder)
    entry = Entry(TAKEN, root_pid=holder.pid, root_ticks=lease.owner.start_ticks)
    trees.keep([(lease, entry)])
    assert trees.used_bytes(lease, entry, anew=True, shares_owner=False) >= TAKEN
    holder.kill()
    holder.wait()
    assert trees.used_bytes(lease, entry, anew=True, shares_owner=False) == 0
