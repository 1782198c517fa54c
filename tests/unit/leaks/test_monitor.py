"""The monitor: trend, time until a limit, work against memory, and a thread that ends."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys

import pytest

from memguard.leaks.monitor import MemoryMonitor

MIB = 1024**2


def watched(
    rate: float, *, noise: float = 0.0, count: int = 100, limit_bytes: int | None = None
) -> MemoryMonitor:
    """Return a monitor that saw a process grow, one reading a second, each after two units of work."""
    chance = random.Random(3)
    monitor = MemoryMonitor(limit_bytes=limit_bytes, capacity=200)
    for second in range(count):
        monitor.done(2.0)
        monitor.observe(int(100 * MIB + rate * second + noise * chance.random()), float(second))
    return monitor


def test_steady_growth_reaches_the_limit_when_it_is_told() -> None:
    """At a mebibyte a second a hundred mebibytes of room last a hundred seconds."""
    found = watched(MIB, limit_bytes=299 * MIB).statistics()
    assert found.trend is not None
    assert found.trend.is_rising
    assert found.trend.bytes_per_s == pytest.approx(MIB)
    assert found.forecast is not None
    assert found.forecast.middle_s == pytest.approx(100.0)


def test_the_forecast_spans_the_truth_under_noise() -> None:
    """With noise of thirty readings' growth the true time lies between soonest and latest."""
    found = watched(MIB, noise=30 * MIB, limit_bytes=400 * MIB).statistics()
    assert found.forecast is not None
    truth_s = (400 * MIB - found.private_bytes) / MIB
    assert found.forecast.soonest_s <= truth_s * 1.1
    assert found.forecast.latest_s >= truth_s * 0.9
    assert found.forecast.soonest_s < found.forecast.middle_s < found.forecast.latest_s


def test_memory_that_stands_still_never_reaches_it() -> None:
    """Without a trend the limit is not forecast."""
    found = watched(0.0, noise=5 * MIB, limit_bytes=400 * MIB).statistics()
    assert found.trend is not None
    assert not found.trend.is_rising
    assert found.forecast is not None
    assert math.isinf(found.forecast.middle_s)
    assert found.to_json()["forecast"]["middle_s"] is None


def test_a_limit_that_is_passed_is_now() -> None:
    """Beyond the limit no time is left."""
    found = watched(MIB, limit_bytes=100 * MIB).statistics()
    assert found.forecast is not None
    assert found.forecast.middle_s == 0.0


def test_work_is_set_against_memory() -> None:
    """Two units a second, a mebibyte a second: half a mebibyte a unit."""
    found = watched(MIB).statistics()
    assert found.throughput is not None
    assert found.throughput.units_per_s == pytest.approx(2.0)
    assert found.throughput.bytes_per_unit == pytest.approx(MIB / 2)


def test_work_that_slows_down_with_memory_shows() -> None:
    """Where batches take four times as long once memory is high, that is told."""
    monitor = MemoryMonitor(capacity=200)
    at_s = 0.0
    for number in range(120):
        at_s += 1.0 if number < 60 else 4.0
        monitor.done()
        monitor.observe((100 + number) * MIB, at_s)
    found = monitor.statistics().throughput
    assert found is not None
    assert found.when_lean == pytest.approx(4 * found.when_full)


def test_the_ring_keeps_the_newest() -> None:
    """Older readings go, the peak stays."""
    monitor = MemoryMonitor(capacity=24)
    monitor.observe(999 * MIB, 0.0)
    for second in range(1, 40):
        monitor.observe(second, float(second))
    found = monitor.readings()
    assert [each.private_bytes for each in found] == list(range(16, 40))
    assert monitor.statistics().peak_bytes == 999 * MIB


def test_few_readings_tell_no_trend() -> None:
    """With a few readings there is neither a trend nor a forecast."""
    found = watched(MIB, count=10, limit_bytes=MIB).statistics()
    assert (found.trend, found.forecast) == (None, None)


def test_a_thread_of_its_own_reads_and_ends() -> None:
    """In a block it reads by itself, and afterwards no thread is left."""
    with MemoryMonitor(interval_s=0.001) as monitor:
        while len(monitor.readings()) < 5:
            with monitor.batch():
                bytearray(MIB)
    assert monitor._thread is None
    assert monitor.statistics().private_bytes > 0
    assert monitor.statistics().throughput is not None


def test_another_process_is_watched_until_it_is_gone() -> None:
    """Another process is read from outside; when it has ended there is nothing to read."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        monitor = MemoryMonitor(child.pid)
        assert monitor.sample()
        child.communicate(b"\n")
    assert not monitor.sample()
    assert monitor.pid != os.getpid()


def test_intervals_and_rings_of_nothing_are_refused() -> None:
    """What could not watch is not made."""
    with pytest.raises(ValueError, match="above 0"):
        MemoryMonitor(interval_s=0.0)
    with pytest.raises(ValueError, match="24"):
        MemoryMonitor(capacity=3)
