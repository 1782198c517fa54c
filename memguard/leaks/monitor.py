"""`MemoryMonitor`: one process watched without a pause: a ring of readings, the trend, the time until a limit.

Comes in: readings of private memory, by itself in a thread or from whoever has them, and how much work was done. Goes
out: `MonitorStatistics` at any moment. It samples, so it misses spikes between two looks; it stops nobody.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from memguard.host import private_bytes_now
from memguard.host.process import private_bytes_of
from memguard.leaks.trend import mann_kendall, theil_sen

__all__ = ["Forecast", "MemoryMonitor", "MonitorStatistics", "Reading", "Throughput", "Trend"]

# Floors of so many parts of the ring: enough for a slope with an interval, and each spans saw-teeth.
_PARTS: Final = 12
_FEWEST_READINGS: Final = 24
# As for a channel with ten floors; see channels.py.
_CHANCE: Final = 0.005


@dataclass(frozen=True, slots=True)
class Reading:
    """What was seen at one moment.

    Attributes:
        at_s: on the monitor's clock.
        private_bytes: memory that would be free if the process ended.
        units: units of work done until then.
    """

    at_s: float
    private_bytes: int
    units: float


@dataclass(frozen=True, slots=True)
class Trend:
    """How memory moves, by the floors of the ring.

    Attributes:
        bytes_per_s: Theil-Sen slope; negative when it falls.
        low: lower end of its interval (95 %).
        high: upper end.
        is_rising: whether it rises by more than chance (Mann-Kendall, p < 0.005).
    """

    bytes_per_s: float
    low: float
    high: float
    is_rising: bool


@dataclass(frozen=True, slots=True)
class Forecast:
    """When a limit is reached if the trend goes on; seconds from the newest reading.

    Attributes:
        middle_s: by the slope; ``inf`` if memory does not rise.
        soonest_s: by the upper end of the slope's interval.
        latest_s: by its lower end; ``inf`` if that is no rise.
    """

    middle_s: float
    soonest_s: float
    latest_s: float


@dataclass(frozen=True, slots=True)
class Throughput:
    """Work against memory.

    Attributes:
        units_per_s: over the ring.
        when_lean: over the third of the time in which memory was lowest.
        when_full: over the third in which it was highest; much less than ``when_lean`` speaks for pressure.
        bytes_per_unit: rise of memory per unit of work, by the trend; 0 without work.
    """

    units_per_s: float
    when_lean: float
    when_full: float
    bytes_per_unit: float


@dataclass(frozen=True, slots=True)
class MonitorStatistics:
    """All that a monitor knows at one moment.

    Attributes:
        pid: the process.
        readings: how many are in the ring.
        private_bytes: the newest; 0 without any.
        peak_bytes: the highest that was ever read, in the ring or before it.
        trend: ``None`` with too few readings.
        forecast: ``None`` without a limit or a trend.
        throughput: ``None`` if no work was told.
    """

    pid: int
    readings: int
    private_bytes: int
    peak_bytes: int
    trend: Trend | None
    forecast: Forecast | None
    throughput: Throughput | None

    def to_json(self) -> dict[str, Any]:
        """Return it in plain values; what is infinite is ``None``."""
        found = {
            "pid": self.pid,
            "readings": self.readings,
            "private_bytes": self.private_bytes,
            "peak_bytes": self.peak_bytes,
        }
        return found | {name: _plain(getattr(self, name)) for name in ("trend", "forecast", "throughput")}


def _plain(record: Trend | Forecast | Throughput | None) -> dict[str, Any] | None:
    if record is None:
        return None
    values = ((name, getattr(record, name)) for name in record.__slots__)
    return {name: value if math.isfinite(value) else None for name, value in values}


class MemoryMonitor:
    """Watches one process; thread-safe.

    As a context manager it reads in a thread of its own until the block ends; else call `sample` or `observe`.

    Args:
        pid: whom; by default this process.
        limit_bytes: for the forecast; ``None`` for none.
        interval_s: between two readings of its own thread.
        capacity: readings kept, the newest; 24 bytes each.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        pid: int | None = None,
        *,
        limit_bytes: int | None = None,
        interval_s: float = 1.0,
        capacity: int = 600,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if interval_s <= 0 or capacity < _FEWEST_READINGS:
            raise ValueError(
                f"a monitor looks at intervals above 0 and keeps {_FEWEST_READINGS} readings or more"
            )
        self.pid = os.getpid() if pid is None else pid
        self.limit_bytes = limit_bytes
        self._interval_s = interval_s
        self._capacity = capacity
        self._clock = clock
        self._lock = threading.Lock()
        self._times = array("d", [0.0]) * capacity
        self._bytes = array("q", [0]) * capacity
        self._done = array("d", [0.0]) * capacity
        self._count = 0
        self._units = 0.0
        self._peak_bytes = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._stop.clear()
        self._thread = threading.Thread(target=self._watch, name="memguard-monitor", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _watch(self) -> None:
        while self.sample() and not self._stop.wait(self._interval_s):
            pass

    def stop(self) -> None:
        """End the thread, once it has looked a last time; the readings stay."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def sample(self) -> bool:
        """Read now; False if the process is gone or may not be looked at."""
        size = private_bytes_now() if self.pid == os.getpid() else private_bytes_of(self.pid)
        if size is None:
            return False
        self.observe(size)
        return True

    def observe(self, private_bytes: int, at_s: float | None = None) -> None:
        """Note a reading that somebody else made; ``at_s`` on the monitor's clock, by default now."""
        with self._lock:
            place = self._count % self._capacity
            self._times[place] = self._clock() if at_s is None else at_s
            self._bytes[place], self._done[place] = private_bytes, self._units
            self._count += 1
            self._peak_bytes = max(self._peak_bytes, private_bytes)

    def done(self, units: float = 1.0) -> None:
        """Say that some work is done: a batch, rows, iterations."""
        with self._lock:
            self._units += units

    @contextlib.contextmanager
    def batch(self, units: float = 1.0) -> Iterator[None]:
        """Read at the end of a block of work, and count it if it did not fail."""
        yield
        self.done(units)
        self.sample()

    def readings(self) -> tuple[Reading, ...]:
        """Return what is in the ring, oldest first."""
        with self._lock:
            first = max(0, self._count - self._capacity)
            places = [number % self._capacity for number in range(first, self._count)]
            return tuple(Reading(self._times[p], self._bytes[p], self._done[p]) for p in places)

    def statistics(self) -> MonitorStatistics:
        """Return a snapshot with trend, forecast and throughput; a millisecond for a full ring of 600."""
        found = self.readings()
        trend = trend_of(found)
        newest = found[-1].private_bytes if found else 0
        return MonitorStatistics(
            pid=self.pid,
            readings=len(found),
            private_bytes=newest,
            peak_bytes=self._peak_bytes,
            trend=trend,
            forecast=None if self.limit_bytes is None else forecast_of(trend, self.limit_bytes - newest),
            throughput=throughput_of(found, trend),
        )


def trend_of(readings: tuple[Reading, ...]) -> Trend | None:
    """Return how the floors of a dozen equal parts move; ``None`` for fewer than two dozen readings."""
    if len(readings) < _FEWEST_READINGS:
        return None
    edges = [len(readings) * part // _PARTS for part in range(_PARTS + 1)]
    parts = [readings[left:right] for left, right in itertools.pairwise(edges)]
    lowest = [min(part, key=lambda each: each.private_bytes) for part in parts]
    floors = [float(each.private_bytes) for each in lowest]
    middles = [(part[0].at_s + part[-1].at_s) / 2 for part in parts]
    if any(late <= early for early, late in itertools.pairwise(middles)):
        return None  # a clock that stands still
    slope = theil_sen(middles, floors)
    rising = mann_kendall(floors) < _CHANCE and slope.middle > 0
    return Trend(slope.middle, slope.low, slope.high, rising)


def forecast_of(trend: Trend | None, room_bytes: int) -> Forecast | None:
    """Return how long some room lasts.

    Args:
        trend: of memory; without one there is no forecast.
        room_bytes: what is left; 0 or less means that the limit is reached.
    """
    if trend is None:
        return None
    if room_bytes <= 0:
        return Forecast(0.0, 0.0, 0.0)
    ends = (trend.bytes_per_s, trend.high, trend.low)
    middle, soonest, latest = (room_bytes / slope if slope > 0 else math.inf for slope in ends)
    # Without a trend beyond chance only the soonest is a claim: it may also never be.
    return Forecast(middle, soonest, latest) if trend.is_rising else Forecast(math.inf, soonest, math.inf)


def throughput_of(readings: tuple[Reading, ...], trend: Trend | None) -> Throughput | None:
    """Return work per second, in all and where memory was least and most; ``None`` without work."""
    pairs = [
        (late.at_s - early.at_s, late.units - early.units, late.private_bytes)
        for early, late in itertools.pairwise(readings)
        if late.at_s > early.at_s
    ]
    units, seconds = sum(each[1] for each in pairs), sum(each[0] for each in pairs)
    if not pairs or units <= 0:
        return None
    ordered = sorted(pairs, key=lambda each: each[2])
    third = max(1, len(ordered) // 3)
    rate = units / seconds
    return Throughput(
        units_per_s=rate,
        when_lean=_rate(ordered[:third]),
        when_full=_rate(ordered[-third:]),
        bytes_per_unit=trend.bytes_per_s / rate if trend is not None else 0.0,
    )


def _rate(pairs: list[tuple[float, float, int]]) -> float:
    return math.fsum(each[1] for each in pairs) / math.fsum(each[0] for each in pairs)
