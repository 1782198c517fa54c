"""What a guard sees of a tree between two moments, with a clock that stands still."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from memguard.worker.tree_guard import TreeGuard
from memguard.worker.watch import WatchLimits
from tests.support.guarded import MIB

# Does what it is told, one line at a time.
OBEYS = "import os, sys\nfor line in sys.stdin:\n    exec(line)\n    print('done', flush=True)\n"


class Tree:
    """A process that is guarded, and told what to do."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OBEYS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.do("pass")
        self.guard = TreeGuard(
            self.process.pid,
            None,
            WatchLimits(400 * MIB, 0.9, 0.01, 0.25),
            adopted=tuple,
            clock=lambda: 1000.0,
        )
        self.guard.tick()

    def do(self, line: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def used_after(self, line: str) -> int:
        self.do(line)
        self.guard.tick()
        return self.guard.watch.used_bytes


@contextmanager
def guarded_tree() -> Iterator[Tree]:
    tree = Tree()
    try:
        yield tree
    finally:
        tree.process.kill()
        tree.process.communicate()


@pytest.fixture
def tree() -> Iterator[Tree]:
    with guarded_tree() as tree:
        yield tree


def test_a_new_file_is_seen_at_the_next_look(tree: Tree) -> None:
    """A file in /dev/shm is known to be the tree's at the first look after it was made, and forgotten when it is gone."""
    path = Path(f"/dev/shm/memguard-test-{os.getpid()}")
    try:
        tree.used_after(f"file = open({str(path)!r}, 'wb')")
        assert [file.path for file in tree.guard.shared_files] == [str(path)]
        tree.used_after(f"file.close(); os.unlink({str(path)!r})")
        assert tree.guard.shared_files == ()
    finally:
        path.unlink(missing_ok=True)


def test_shared_memory_that_grows_is_seen_before_it_is_over_the_line(tree: Tree) -> None:
    """A memfd grows with no time passing: when it could have reached the line, the tree is measured anew."""
    before = tree.used_after("file = os.memfd_create('x')")
    assert tree.used_after("os.posix_fallocate(file, 0, 200 << 20)") >= before + 200 * MIB
    assert tree.used_after("pass") >= before + 200 * MIB
    assert tree.used_after("os.posix_fallocate(file, 0, 300 << 20)") >= before + 300 * MIB


def test_own_memory_adds_to_the_shared(tree: Tree) -> None:
    """What the tree takes and gives back of its own shows at once, on top of the shared memory that it keeps."""
    both = tree.used_after("file = os.memfd_create('x'); os.posix_fallocate(file, 0, 200 << 20)")
    more = tree.used_after("block = b'x' * (100 << 20)")
    assert more >= both + 95 * MIB
    assert tree.used_after("del block") < more - 95 * MIB
    assert tree.guard.degraded == {}


def test_only_what_is_gone_is_verified(tree: Tree) -> None:
    """What the tree made and another process still uses is left, told, and keeps the cleanup from being verified."""
    kept, forgotten = (Path(f"/dev/shm/memguard-test-{os.getpid()}-{word}") for word in ("kept", "forgotten"))
    try:
        tree.used_after(f"files = [open(path, 'wb') for path in ({str(kept)!r}, {str(forgotten)!r})]")
        with kept.open("rb"):
            tree.process.kill()
            tree.process.wait()
            cleanup = tree.guard.finish(0.0, remove_shared=True)
        assert not cleanup.verified
        assert [line.partition(" bytes) ")[2] for line in cleanup.leftovers] == [
            "was removed",
            "is left: in use, or another user's",
        ]
        assert (kept.exists(), forgotten.exists()) == (True, False)
        assert tree.guard.finish(0.0, remove_shared=True).verified  # by now nobody uses it
        assert not kept.exists()
    finally:
        kept.unlink(missing_ok=True)
        forgotten.unlink(missing_ok=True)
