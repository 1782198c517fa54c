"""Real guarded jobs for tests: managers whose processes can be told from all others, and what jobs left behind."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import cloudpickle
import jsonschema
import pytest

from memguard import JobReport, JobResult, MemoryManager
from memguard.config import load_settings
from memguard.host import children_of, processes_with_environment, start_ticks, wait_all_gone
from memguard.host.fence_place import FencePlace, choose_place
from memguard.report import report_from_json, report_to_json

ROOT = Path(__file__).resolve().parents[2]
MIB = 1024**2
PATIENCE_S = 30.0
MARK = "MARK_OF_A_TEST"


@functools.cache
def report_validator() -> Any:
    """Return the validator of ``memguard.report/1``."""
    text = resources.files("memguard").joinpath("schemas", "report-1.json").read_text()
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def check_report(report: JobReport) -> None:
    """Hold that a report is a valid document, and that nothing of it is lost on the way there and back."""
    document = report_to_json(report)
    report_validator().validate(document)
    assert report_from_json(json.loads(json.dumps(document, allow_nan=False))) == report


def by_value(module_name: str) -> None:
    """Let the functions of a test module cross by value: importing it in each job would bring pytest along."""
    cloudpickle.register_pickle_by_value(sys.modules[module_name])


def eventually(holds: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """Wait for something that the kernel announces to nobody; returns what ``holds`` returned last."""
    deadline_s = time.monotonic() + patience_s
    while not (answer := holds()) and time.monotonic() < deadline_s:
        select.select([], [], [], 0.005)
    return answer


def fences_of(job_id: str) -> list[str]:
    """Return the fences of a job that exist now."""
    place = choose_place()
    if not isinstance(place, FencePlace):
        return []
    return [name for name in os.listdir(place.directory) if name.startswith(f"memguard-{job_id}")]


def descriptors() -> dict[int, str]:
    """Return what this process has open."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one of the listing itself
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


class Guarded:
    """A manager and its traces: every process it starts carries a mark in its environment."""

    def __init__(self, budget: str = "1GiB", **settings: Any) -> None:
        self.mark = secrets.token_hex(8)
        os.environ[MARK] = self.mark
        self.events: list[Any] = []
        self.manager = MemoryManager(budget, settings=load_settings(settings))
        self.manager.events.subscribe(self.events.append)

    def run(
        self, function: Callable[..., Any], *args: Any, memory: str = "200MiB", **options: Any
    ) -> JobResult:
        """Run a job and return its result however it ended."""
        os.environ[MARK] = self.mark
        result = self.manager.run(function, *args, memory=memory, **{"check": False, **options})
        check_report(result.report)
        return result

    def value(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Run a job that must complete; returns its value."""
        return self.run(function, *args, **{"check": True, **options}).value

    def processes(self) -> dict[int, int]:
        """Return pid and start time of every process that belongs to this manager."""
        return dict(processes_with_environment(MARK, self.mark))

    @property
    def template_pid(self) -> int:
        """The template that serves the next job."""
        template = self.manager._pool._current
        assert template is not None
        return template.pid

    def is_idle(self) -> bool:
        """Whether the template, the keeper that waits and the process that waits with it are all that is there."""
        # One that has just died is a child until the template has reaped it, and shows no environment.
        return len(self.processes()) == 3 and len(children_of(self.template_pid)) == 1

    def standby(self) -> tuple[int, int]:
        """Return the pids of the keeper that waits for a job, and of the process that would become it."""
        assert eventually(self.is_idle), self.processes()
        ((keeper, _),) = children_of(self.template_pid)
        ((waiting, _),) = children_of(keeper)
        return keeper, waiting

    def check_nothing_left(self, result: JobResult) -> None:
        """Hold that a job is gone without a trace, and that its report says so."""
        assert result.report.cleanup.verified, result.report
        assert fences_of(result.report.job_id) == []
        assert eventually(self.is_idle), self.processes()

    def close(self) -> None:
        """End it and hold that nothing is left at all."""
        self.manager.close()
        assert eventually(lambda: not self.processes()), self.processes()


@contextmanager
def guarded(budget: str = "1GiB", **settings: Any) -> Iterator[Guarded]:
    """A manager that is warm: its template runs."""
    manager = Guarded(budget, **settings)
    try:
        manager.value(int)
        yield manager
    finally:
        manager.close()


def error_of(result: JobResult) -> BaseException:
    """Return what the result raises for its outcome; fails if that is nothing."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - the caller looks at it
        result.raise_for_outcome()
    return caught.value


@contextmanager
def unchanged_caller() -> Iterator[None]:
    """Hold that descriptors and threads of this process are as before."""
    before, threads = descriptors(), threading.enumerate()
    yield
    assert descriptors() == before
    assert threading.enumerate() == threads


def kill_for_sure(pid: int) -> None:
    """Kill somebody else's child with SIGKILL and wait until it is dead, reaped or not."""
    ticks = start_ticks(pid)
    assert ticks is not None
    os.kill(pid, signal.SIGKILL)
    assert wait_all_gone([(pid, ticks)], PATIENCE_S)


def start_python(program: str, **options: Any) -> subprocess.Popen[str]:
    """Start an interpreter of its own; the caller ends it."""
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run_python(program: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run an interpreter of its own to its end."""
    return subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=PATIENCE_S * 2,
        **{"cwd": ROOT, **options},
    )
