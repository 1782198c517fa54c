"""Several limits at once: the worst counts, and the next look comes before the fastest job could reach a line."""

from __future__ import annotations

import pytest

from memguard.guard.gauges import Gauges, LimitNow
from memguard.guard.pressure import Pressure
from memguard.units import GIB, MIB


def limit(name: str, capacity: int, used: int, promised: int = 0) -> LimitNow:
    return LimitNow(name, capacity, used, promised, 0)


@pytest.mark.requirement("R6.3", "T5.3")
def test_the_worst_limit_counts() -> None:
    """A small cgroup that is full is full, however much the machine has left; and the other way round."""
    gauges = Gauges()
    now, worst = gauges.observe(1.0, [limit("machine", 64 * GIB, GIB), limit("cage", GIB, GIB)])
    assert (now.state, worst.name) == (Pressure.CRITICAL, "cage")
    now, worst = Gauges().observe(1.0, [limit("machine", 64 * GIB, 62 * GIB), limit("cage", GIB, 0)])
    assert (now.state, worst.name) == (Pressure.CRITICAL, "machine")


def test_a_limit_that_comes_and_goes_is_no_burst() -> None:
    """Each limit has its own history: a new one begins without a rate, and takes none away."""
    gauges = Gauges()
    gauges.observe(1.0, [limit("machine", 64 * GIB, GIB)])
    now, _ = gauges.observe(1.1, [limit("machine", 64 * GIB, GIB), limit("cage", GIB, GIB // 2)])
    assert now.state is Pressure.NORMAL
    now, worst = gauges.observe(1.2, [limit("machine", 64 * GIB, GIB)])
    assert (now.fill_bytes_per_s, worst.name) == (0.0, "machine")


@pytest.mark.requirement("R7.3")
@pytest.mark.parametrize("used", [0, 200, 500, 900, 970, 1000])
def test_the_next_look_comes_before_full_speed_reaches_the_line(used: int) -> None:
    """From the state of calm at most half of the way is left out, and never more than a second passes."""
    now, _ = Gauges().observe(1.0, [limit("cage", 1000 * MIB, used * MIB)])
    assert 0.01 <= now.next_look_s <= 1.0
    if used < 900:
        assert now.next_look_s * 6 * GIB <= (950 - used) * MIB
    calmer, _ = Gauges().observe(1.0, [limit("cage", 1000 * MIB, used * MIB)], may_burst=False)
    assert calmer.next_look_s >= now.next_look_s
