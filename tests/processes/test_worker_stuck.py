"""Jobs that hold the interpreter's lock in C: nothing of Python runs in them, no signal handler and no thread."""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from memguard import Outcome
from tests.support.guarded import Guarded, by_value, guarded
from tests.support.looks import Looks

by_value(__name__)

STUCK_S = 10


@pytest.fixture(scope="module")
def jobs() -> Iterator[Guarded]:
    with guarded(grace="300ms") as manager:
        yield manager


def stuck_for_ever() -> None:
    """Lock a mutex twice: no signal ends that, while a handler of Python's stands in the way of SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: None)
    mutex = ctypes.create_string_buffer(128)
    libc = ctypes.PyDLL(None)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)


def stuck_for_seconds() -> int:
    ctypes.PyDLL(None).sleep(STUCK_S)
    return STUCK_S


@pytest.mark.requirement("R1.4")
def test_a_job_stuck_in_c_is_ended_when_its_time_is_up(jobs: Guarded) -> None:
    """It cannot hear that it should end, and is killed after the grace."""
    result = jobs.run(stuck_for_ever, timeout=0.3)
    assert (result.report.outcome, result.report.signal) == (Outcome.TIMEOUT, "SIGKILL")
    jobs.check_nothing_left(result)


@pytest.mark.heavy
@pytest.mark.requirement("R2.4")
def test_a_job_stuck_in_c_for_seconds_is_watched_and_finishes(jobs: Guarded, tmp_path: Path) -> None:
    """Its guard looks on as before, takes it for nothing else than a working job, and its value arrives."""
    looks = Looks(tmp_path / "gate", lambda _: False)
    result = jobs.run(stuck_for_seconds, on_progress=looks)
    assert (result.value, result.report.outcome) == (STUCK_S, Outcome.COMPLETED)
    # Four times a second at least, less what a busy machine takes.
    assert len(looks.used) > 2 * STUCK_S
    jobs.check_nothing_left(result)
