"""Watching use against its lines: pure, so that every course of a job can be played through without one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memguard.units import GIB, MIB
from memguard.worker.watch import FASTEST_FILL_BYTES_PER_S, Notice, UsageWatch, WatchLimits

LIMITS = WatchLimits(100 * MIB, 0.8, 0.01, 0.25)


def watched(*samples_mib: float) -> tuple[UsageWatch, list[tuple[Notice, ...]]]:
    watch = UsageWatch(LIMITS)
    return watch, [watch.observe(int(each * MIB)) for each in samples_mib]


def test_nearing_is_told_once_and_again_when_it_gets_worse() -> None:
    """The first sample at the line warns; a saw-tooth across it does not; a tenth of the budget more does."""
    watch, notices = watched(10, 79, 80, 85, 50, 81, 70, 89, 90, 95)
    near = (Notice.NEARED,)
    assert notices == [(), (), near, (), (), (), (), (), near, ()]
    assert (watch.warnings, watch.peak_bytes, watch.used_bytes) == (2, 95 * MIB, 95 * MIB)


def test_a_jump_past_both_lines_is_told_in_order() -> None:
    """One sample that is past the budget says first that it is near, then that it is over."""
    assert watched(10, 150)[1][1] == (Notice.NEARED, Notice.EXCEEDED)


def test_the_budget_itself_is_allowed() -> None:
    """Exactly the budget is not over it; one byte more is, as long as it lasts."""
    watch, _ = watched()
    assert Notice.EXCEEDED not in watch.observe(100 * MIB)
    assert Notice.EXCEEDED in watch.observe(100 * MIB + 1)
    assert Notice.EXCEEDED in watch.observe(100 * MIB + 1)
    assert Notice.EXCEEDED not in watch.observe(99 * MIB)


@given(st.lists(st.integers(0, 200 * MIB), min_size=1))
def test_the_peak_is_the_highest_sample(samples: list[int]) -> None:
    """Whatever the course, the peak is its maximum, and the exceedings are the samples past the budget."""
    watch = UsageWatch(LIMITS)
    exceeded = [Notice.EXCEEDED in watch.observe(sample) for sample in samples]
    assert watch.peak_bytes == max(samples)
    assert exceeded == [sample > LIMITS.limit_bytes for sample in samples]
    assert bool(watch.warnings) == (max(samples) >= LIMITS.warn_bytes)


@given(st.integers(0, 64 * GIB), st.integers(16 * MIB, 64 * GIB), st.floats(0.1, 1.0))
def test_the_next_look_comes_before_the_next_line(used: int, limit: int, fraction: float) -> None:
    """At the fastest fill rate no line is passed by more than the shortest interval allows, and no look is late."""
    limits = WatchLimits(limit, fraction, 0.01, 0.25)
    watch = UsageWatch(limits)
    watch.observe(used)
    wait_s = watch.next_interval_s()
    assert 0.01 <= wait_s <= 0.25
    if wait_s > 0.01:
        reached = used + wait_s * FASTEST_FILL_BYTES_PER_S
        assert reached <= max(limit, limits.warn_bytes) + 1
