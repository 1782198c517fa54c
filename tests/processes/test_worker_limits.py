"""Limits of the caller that are in the way of a job: what they do not concern works, what they do is told with a next step."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from memguard.errors import TransferError
from tests.support.guarded import MIB, Guarded, by_value, guarded, run_python

by_value(__name__)


@pytest.fixture(scope="module")
def jobs() -> Iterator[Guarded]:
    with guarded("1GiB", grace="500ms") as manager:
        yield manager


@contextmanager
def file_size_limit(soft: int) -> Iterator[None]:
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


def test_a_file_size_limit_is_no_limit_on_results(jobs: Guarded) -> None:
    """A caller's soft limit holds for the job's own files, and its large result crosses all the same."""

    def give() -> tuple[int, bytes]:
        return resource.getrlimit(resource.RLIMIT_FSIZE)[0], b"x" * (3 * MIB)

    with file_size_limit(MIB):
        limit, content = jobs.value(give)
    assert (limit, len(content)) == (MIB, 3 * MIB)


def test_a_call_beyond_the_file_size_limit_names_it(jobs: Guarded) -> None:
    """Arguments that the caller itself may not write: the error says which limit, and no room stays taken."""
    with file_size_limit(MIB), pytest.raises(TransferError, match="ulimit -f"):
        jobs.value(len, b"x" * (3 * MIB))
    assert jobs.manager.allocator.statistics().reserved_bytes == 0


HARD = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
from memguard import MemoryManager
def give(size):
    return b"x" * size
with MemoryManager("1GiB") as manager:
    result = manager.run(give, 3 << 20, memory="100MiB", check=False)
    print(result.report.outcome.value, type(result.error).__name__, result.error)
    print(len(manager.run(give, 1000, memory="100MiB").value))
"""


def test_a_result_beyond_a_hard_limit_names_it() -> None:
    """Where nobody may write the result, that is no lack of memory: the job raised, and the limit is named."""
    done = run_python(HARD)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("raised TransferError a result of 31")
    assert "ulimit -f" in lines[0]
    assert (lines[1], done.returncode, done.stderr) == ("1000", 0, "")


FEW_DESCRIPTORS = """
import os, resource
from memguard import MemoryManager
from memguard.errors import WorkerStartError
manager = MemoryManager("1GiB")
manager.run(int, memory="100MiB")
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
taken = []
def take_all():
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        return len(taken)
most = take_all()
for free in range(12):
    for _ in range(free):
        os.close(taken.pop())
    try:
        manager.run(int, memory="100MiB")
        print("ran")
    except WorkerStartError as error:
        print("ulimit -n" in str(error))
    assert manager.allocator.statistics().reserved_bytes == 0
    assert take_all() == most, "a descriptor leaked"
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(manager.run(int, "5", memory="100MiB").value)
manager.close()
"""


def test_no_descriptor_left_is_told_with_a_next_step() -> None:
    """However few descriptors a caller has, a run works or says what to raise, and leaks none of them."""
    done = run_python(FEW_DESCRIPTORS)
    assert (done.returncode, done.stderr) == (0, "")
    answers = done.stdout.split()
    assert answers[-1] == "5"
    assert set(answers[:-1]) == {"True", "ran"}
    assert answers[0] == "True"
    assert answers[-2] == "ran"
