"""A detector around jobs: cheap until there is a reason, and a verdict after it."""

from __future__ import annotations

import gc
import pickle

import pytest

from memguard.events import Event, EventBus
from memguard.leaks.around import JobWatch, watched
from memguard.leaks.records import Kind, Verdict
from memguard.leaks.registry import ModelRegistry

KEPT: list[bytes] = []


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    KEPT.clear()


def keep(number: int) -> int:
    """Leak 50 KB."""
    KEPT.append(bytes([number % 251]) * 50_000)
    return number


def work(number: int) -> int:
    """Leak nothing."""
    return len(bytes([number % 251]) * 50_000)


@pytest.mark.heavy
def test_a_worker_that_leaks_is_found_and_named() -> None:
    """Some hundred calls arouse suspicion, a closer look names the list."""
    function = watched(keep, share=100)
    assert [function(number) for number in range(400)] == list(range(400))
    assert function.should_be_recycled
    report = function.report()
    assert report is not None
    assert (report.verdict, report.kind) == (Verdict.LEAKING, Kind.PYTHON)
    assert "KEPT" in report.culprits[0].holder


def test_a_worker_that_does_not_leak_stays() -> None:
    """Calls that keep nothing give no reason to recycle the worker."""
    function = watched(work)
    for number in range(120):
        function(number)
    assert not function.should_be_recycled


def test_a_call_that_raises_counts() -> None:
    """The error comes through, and the call was an iteration."""
    function = watched(keep)
    with pytest.raises(TypeError):
        function("x")  # type: ignore[arg-type]
    report = function.report()
    assert report is not None
    assert report.iterations == 1


def test_a_watched_function_travels_without_its_watch() -> None:
    """Sent to another process it begins anew there."""
    function = watched(work)
    function(1)
    again = pickle.loads(pickle.dumps(function))
    assert again(2) == 50_000
    assert again.report().iterations == 1


def test_jobs_of_a_manager_are_iterations() -> None:
    """Each end of a job counts, other events do not, and after the report none does."""
    events = EventBus()
    with JobWatch(events) as watch:
        for _ in range(5):
            events.publish(Event("memguard.job_ended", job_id="a", fields={"outcome": "succeeded"}))
            events.publish(Event("memguard.batch_resized", job_id="a"))
    events.publish(Event("memguard.job_ended", job_id="a"))
    assert watch.report().iterations == 5
    assert not watch.is_suspicious


class Model:
    """Something that a job makes."""

    def __init__(self) -> None:
        self.weights = bytearray(100_000)


BEST: list[Model] = []


def test_models_that_outlive_their_jobs_are_suspects() -> None:
    """They are named with their holder and their bytes, those that are gone are not, and no verdict comes of it."""
    events, models = EventBus(), ModelRegistry()
    gone = Model()
    with JobWatch(events, models) as watch:
        for number in range(4):
            BEST.append(Model())
            models.register(BEST[-1], job_id=f"job {number}")
            models.register(gone, job_id=f"job {number}")
            events.publish(
                Event("memguard.job_ended", job_id=f"job {number}", fields={"outcome": "succeeded"})
            )
        del gone
        gc.collect()
    report = watch.report()
    suspect = report.culprits[0]
    BEST.clear()
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.evidence[-1] == "4 registered models outlived their jobs"
    assert suspect.type.endswith("Model")
    assert "BEST" in " ".join((suspect.holder, *suspect.chain))
    assert suspect.bytes_per_iteration >= 100_000
    assert suspect.why.startswith("it outlived its job 'job 0', and 3 more like it")
