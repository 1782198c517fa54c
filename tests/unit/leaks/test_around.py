"""A detector around jobs: cheap until there is a reason, and a verdict after it."""

from __future__ import annotations

import gc
import logging
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from memguard.events import Event, EventBus
from memguard.leaks import around
from memguard.leaks.around import JobWatch, watched
from memguard.leaks.detector import LeakDetector
from memguard.leaks.records import Kind, Verdict
from memguard.leaks.recycling import RecycledWorker, WorkerWatch
from memguard.leaks.registry import ModelRegistry, Survivor
from memguard.leaks.sources import NativeSources

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
    function = watched(keep, share=1e9)
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


def test_models_that_outlive_their_jobs_are_suspects(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are named with their holder and their bytes, those that are gone are not, and no verdict comes of it."""
    # On a busy machine two seconds may not do: the heap is that of all tests.
    monkeypatch.setattr(around, "_SEARCH_S", 60.0)
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


def test_a_report_within_the_block_is_the_one_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Survivors are searched for once, however often the report is asked for, and not at all if it never is."""
    events, models, searches = EventBus(), ModelRegistry(), []
    model, search = Model(), models.survivors

    def counted(job_id: str, *, within_s: float) -> tuple[Survivor, ...]:
        searches.append(job_id)
        return search(job_id, within_s=within_s)

    monkeypatch.setattr(models, "survivors", counted)
    models.register(model, job_id="a")
    with JobWatch(events, models) as watch:
        events.publish(Event("memguard.job_ended", job_id="a"))
        first = watch.report()
    assert watch.report() is first
    with JobWatch(events, models):
        events.publish(Event("memguard.job_ended", job_id="a"))
    assert searches == ["a"]


def failing(_: LeakDetector) -> None:
    """Stand for a system whose /proc cannot be read."""
    raise OSError(2, "No such file or directory")


def test_a_watch_that_fails_costs_no_call_its_result(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Results and the function's own errors come through, and the failure is logged once."""
    monkeypatch.setattr(LeakDetector, "iteration", failing)
    function = watched(work)
    with caplog.at_level(logging.WARNING, "memguard.leaks"):
        assert [function(number) for number in range(3)] == [50_000] * 3
        with pytest.raises(TypeError, match="str"):
            function("x")  # type: ignore[arg-type]
    assert ["watch for leaks failed" in each.getMessage() for each in caplog.records] == [True]


def test_threads_that_call_first_share_one_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two first calls that end at once make one detector, so none is left behind unended."""
    made = []
    begin = LeakDetector.__init__

    def counted(self: LeakDetector, **options: Any) -> None:
        made.append(self)
        begin(self, **options)

    monkeypatch.setattr(LeakDetector, "__init__", counted)
    both = threading.Barrier(2, timeout=30)
    function = watched(lambda _: both.wait())
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(function, range(2)))
    report = function.report()
    assert report is not None
    assert (len(made), report.iterations) == (1, 2)


def test_a_watch_that_is_ended_ends_its_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a detector registered elsewhere is gone after it, and jobs no longer count."""
    closed = []
    close = NativeSources.close
    monkeypatch.setattr(NativeSources, "close", lambda self: (closed.append(self), close(self)))
    watch = WorkerWatch()
    watch.job_ended()
    watch.close()
    watch.job_ended()
    assert (len(closed), watch.jobs) == (1, 1)


def test_only_a_worker_that_is_replaced_says_so() -> None:
    """A leak is reported as it is; that the worker is recycled for it is added where it is."""
    report = watched(work)
    report(1)
    plain = report.report()
    assert plain is not None
    found = RecycledWorker(7, 80, plain)
    assert not found.is_replaced
    assert found.replaced().is_replaced
    assert found.replaced().report.evidence == (
        *plain.evidence,
        "this worker, process 7, is recycled for it after 80 jobs",
    )
