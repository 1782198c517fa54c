"""Tracked objects count by what they say they weigh, as long as they live."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pandas as pd
import pytest

from memguard.tracking import AllocationTracker, size_of


class Model:
    def __init__(self) -> None:
        self.self = self


@pytest.mark.requirement("R4.3")
def test_sizes_are_those_of_the_data() -> None:
    """An array weighs its bytes, a frame its columns and index, anything else its own size."""
    assert size_of(np.zeros(1000)) == 8000
    assert size_of(np.zeros((0, 7))) == 0
    frame = pd.DataFrame({"a": np.zeros(1000), "b": np.zeros(1000, dtype="i4")})
    assert size_of(frame) == 12_000 + frame.index.memory_usage()
    assert size_of(frame["a"]) == 8000 + frame.index.memory_usage()
    assert size_of(b"x" * 100) >= 100


@pytest.mark.requirement("R4.3", "T1.1")
def test_an_object_counts_until_it_dies() -> None:
    """By its last reference, without a collection; the name goes with the last of its objects."""
    tracker = AllocationTracker()
    gc.disable()
    try:
        one = tracker.track(np.zeros(1000), "features")
        two = tracker.track(np.zeros(500), "features")
        three = tracker.track(np.zeros(2000), "target")
        assert tracker.by_name() == {"target": 16_000, "features": 12_000}
        assert list(tracker.by_name()) == ["target", "features"]
        del one
        assert tracker.by_name()["features"] == 4000
        del two, three
        assert (tracker.by_name(), tracker.total_bytes) == ({}, 0)
    finally:
        gc.enable()


def test_an_object_in_a_cycle_counts_until_it_is_collected() -> None:
    """Tracking neither keeps it alive nor loses it."""
    tracker = AllocationTracker()
    tracker.track(Model(), "model")
    assert tracker.total_bytes > 0
    gc.collect()
    assert tracker.total_bytes == 0


def test_what_cannot_be_referenced_weakly_is_refused() -> None:
    """A list or a number is told to be unfit, and counts nothing."""
    tracker = AllocationTracker()
    with pytest.raises(TypeError):
        tracker.track([1, 2], "list")
    assert tracker.total_bytes == 0


def test_threads_may_track_at_the_same_time() -> None:
    """Totals are right whoever adds and drops meanwhile."""
    tracker = AllocationTracker()
    kept: list[np.ndarray] = []

    def work() -> None:
        for number in range(300):
            array = tracker.track(np.zeros(10), "work")
            if number % 3 == 0:
                kept.append(array)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert tracker.by_name() == {"work": 400 * 80}
