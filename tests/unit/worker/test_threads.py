"""How many threads a job should have, and when its libraries are told."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.testing import FakeClock
from memguard.worker import threads
from memguard.worker.context import JobContext
from memguard.worker.protocol import channel_pair
from memguard.worker.threads import ThreadFollower, threads_for
from tests.support.forks import FORKS_BESIDE_THREADS, in_child


@pytest.mark.parametrize(
    ("cpus", "jobs", "wanted", "expected"),
    [
        (8, 1, None, 8),
        (8, 3, None, 2),
        (8, 9, None, 1),
        (8, 0, None, 8),
        (8, 2, 3, 3),
        (8, 2, 16, 4),
        (8, 2, 0, 1),
    ],
)
def test_the_share_of_a_job(cpus: int, jobs: int, wanted: int | None, expected: int) -> None:
    """Processors are divided by jobs, downwards, at least 1; who wants less gets what he wants."""
    assert threads_for(cpus, jobs, wanted) == expected


@given(st.integers(-5, 1000), st.integers(-5, 1000), st.none() | st.integers(-5, 1000))
def test_all_jobs_together_have_no_more_threads_than_processors(
    cpus: int, jobs: int, wanted: int | None
) -> None:
    """Whatever the figures, everybody has one, and nobody more than that unless there are enough for all."""
    number = threads_for(cpus, jobs, wanted)
    assert number >= 1
    assert number == 1 or number * max(1, jobs) <= cpus


@dataclass
class Library:
    """A library that remembers what it was told; ``deaf`` as one that another thread controls."""

    now: int = 8
    told: list[int] = field(default_factory=list)
    deaf: bool = False

    def limit(self, number: int) -> None:
        self.told.append(number)
        if not self.deaf:
            self.now = number


class Scene:
    """A machine of eight processors, one library, and as many jobs as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.jobs, self.asked, self.looked = 1, 0, 0
        self.library, self.clock, self.warnings = Library(), FakeClock(), list[str]()
        self.loaded = frozenset({"numpy"})
        monkeypatch.setattr(threads, "_libraries", self.libraries)
        monkeypatch.setattr(threads, "_bringers_loaded", lambda: self.loaded)
        monkeypatch.setattr(threads, "allowed_cpus", lambda: 8)
        self.follower = ThreadFollower(
            self.count, cpus=lambda: 8, warn=self.warnings.append, clock=self.clock.monotonic
        )

    def libraries(self) -> Iterator[threads._Library]:
        self.looked += 1
        yield threads._Library("blas", lambda: self.library.now, self.library.limit)

    def count(self) -> int:
        self.asked += 1
        return self.jobs

    def apply(self, jobs: int) -> int:
        """Come to a checkpoint a second later, with so many jobs; returns the library's threads."""
        self.jobs = jobs
        self.clock.advance(1.0)
        self.follower.apply()
        return self.library.now


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


@pytest.mark.requirement("R7.3")
def test_threads_follow_the_number_of_jobs(scene: Scene) -> None:
    """They become fewer when jobs come, more when jobs end, and never more than there were."""
    assert [scene.apply(jobs) for jobs in (1, 2, 4, 3, 20, 1, 0)] == [8, 4, 2, 2, 1, 8, 8]
    assert scene.library.told == [4, 2, 1, 8]


def test_nothing_is_looked_for_where_nothing_changes(scene: Scene) -> None:
    """A job that is alone looks for no library, one whose share stays the same looks once, a busy one asks seldom."""
    scene.apply(1)
    assert scene.looked == 0
    for _ in range(3):
        scene.apply(2)
    assert scene.looked == 1
    before = scene.asked
    for _ in range(100):
        scene.follower.apply()
    assert scene.asked == before


def test_a_job_without_such_libraries_is_asked_nothing(scene: Scene) -> None:
    """As long as no package with threads is loaded nobody is even counted; one that comes later is seen."""
    scene.loaded = frozenset()
    assert scene.apply(4) == 8
    assert scene.asked == 0
    scene.loaded = frozenset({"numpy"})
    assert scene.apply(4) == 2


def test_what_the_user_set_is_never_raised(scene: Scene) -> None:
    """A number below the share stays, from the start on or set meanwhile; one above it is lowered to the share."""
    scene.library.now = 3
    assert [scene.apply(jobs) for jobs in (2, 4, 1)] == [3, 2, 3]
    scene.library.now = 1
    assert [scene.apply(jobs) for jobs in (2, 1)] == [1, 1]
    scene.library.now = 6
    assert [scene.apply(jobs) for jobs in (2, 1)] == [4, 6]


def test_a_library_that_does_not_listen_is_told_again(scene: Scene) -> None:
    """While a thread of the job limits it itself nothing can be set; the next checkpoint tries again."""
    scene.library.deaf = True
    assert scene.apply(2) == 8
    scene.library.deaf = False
    assert scene.apply(2) == 4


@pytest.mark.parametrize("count", [None, 0])
def test_a_library_that_cannot_tell_is_left_alone(scene: Scene, count: int | None) -> None:
    """Where the number is not known nothing is set."""
    scene.library.now = count  # type: ignore[assignment]
    scene.apply(4)
    assert scene.library.told == []


def test_a_failure_is_told_once_and_fails_no_job(scene: Scene) -> None:
    """Whoever cannot be counted, or set, is told of once and tried again half a minute later; the job goes on."""

    def fail(_: int) -> None:
        raise OSError("no such thing")

    scene.library.limit = fail  # type: ignore[method-assign]
    for jobs in (2, 3, 2):
        scene.apply(jobs)
    assert scene.asked == 1
    del scene.library.limit  # type: ignore[method-assign]
    scene.clock.advance(30)
    assert scene.apply(2) == 4
    assert scene.warnings == ["threads do not follow the number of jobs for now: OSError: no such thing"]


@FORKS_BESIDE_THREADS
def test_only_the_jobs_main_thread_acts(scene: Scene) -> None:
    """Limits count by thread: other threads set nothing, nor does a forked child of the job."""
    scene.jobs = 4
    other = threading.Thread(target=scene.follower.apply)
    other.start()
    other.join()
    assert in_child(lambda: scene.follower.apply() is None and scene.asked == 0)
    assert scene.asked == 0
    assert scene.apply(4) == 2


def test_a_job_follows_at_each_of_its_messages(scene: Scene) -> None:
    """Phases, progress and batches are checkpoints; without a follower they are what they were."""
    guard, own = channel_pair()
    context = JobContext("id", "job", 1, own)
    try:
        context.batch(1)
        context.threads = scene.follower
        for jobs, checkpoint in (
            (2, lambda: context.phase("fit")),
            (4, lambda: context.progress(0.5)),
            (8, lambda: context.batch(5)),
        ):
            scene.jobs = jobs
            scene.clock.advance(1.0)
            checkpoint()
        assert scene.library.told == [4, 2, 1]
    finally:
        guard.close()
        own.close()


def test_numba_is_not_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merely to ask numba for its number starts its threads: it is seen only once they run."""

    class Parallel:
        _is_initialized = False

    monkeypatch.setitem(sys.modules, "numba.np.ufunc.parallel", Parallel())  # type: ignore[arg-type]
    assert threads._launched_numba() is None
    monkeypatch.setattr(Parallel, "_is_initialized", True)
    assert threads._launched_numba() is not None
    assert "numba.np.ufunc.parallel" in threads._bringers_loaded()
