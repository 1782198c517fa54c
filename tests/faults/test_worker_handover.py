"""The last moments of a job: stopped while it hands over, killed with files that took another's name."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from memguard import Outcome
from memguard.worker import jobmain
from tests.support.guarded import Guarded, by_value, guarded

by_value(__name__)


@pytest.fixture(scope="module")
def jobs() -> Iterator[Guarded]:
    with guarded("1GiB", grace="500ms") as manager:
        yield manager


@pytest.mark.parametrize("moment", ["write_packed", "leave_job"])
def test_a_stop_during_the_handover_says_nothing(
    jobs: Guarded, capfd: pytest.CaptureFixture[str], moment: str
) -> None:
    """A job that is stopped while it delivers, or while it ends, shows nobody the guard's own code."""

    def stopped_late() -> str:
        setattr(jobmain, moment, lambda *_: signal.raise_signal(signal.SIGINT))
        return "value"

    result = jobs.run(stopped_late)
    assert capfd.readouterr() == ("", "")
    assert result.value == (None if moment == "write_packed" else "value")
    jobs.check_nothing_left(result)


def test_a_file_that_took_anothers_name_goes_with_its_job(
    jobs: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shared memory that was replaced under its name is the job's as well: it is gone after a kill of the keeper."""
    path = Path(f"/dev/shm/memguard-test-{secrets.token_hex(6)}")
    told: list[int] = []
    pids: list[int] = []

    def replace() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        for _ in range(2):
            path.unlink(missing_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            os.write(file, b"x" * 1_000_000)
            signal.sigtimedwait({signal.SIGUSR1}, 5)
            os.dup(file)  # held to the end

    def hear(frame: Any, message: Any) -> None:
        if message["kind"] == "started":
            pids.extend((message["pid"], parent_of(message["pid"])))
        elif message["kind"] == "shared":
            told.extend(each["inode"] for each in message["files"] if each["path"] == str(path))
            os.kill(*((pids[0], signal.SIGUSR1) if len(told) == 1 else (pids[1], signal.SIGKILL)))

    monkeypatch.setattr(jobs.manager._announcer, "message", hear)
    try:
        result = jobs.run(replace)
        assert result.report.outcome is Outcome.LOST
        assert len(set(told)) == 2
        assert not path.exists()
    finally:
        path.unlink(missing_ok=True)


def parent_of(pid: int) -> int:
    return psutil.Process(pid).ppid()
