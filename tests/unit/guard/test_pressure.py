"""The state of memory from scripted readings: worse at once, better when it lasts, early where it fills fast."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.guard.pressure import FillRate, Lines, Pressure, PressureGauge, PressureNow

CAPACITY = 1_000_000


class Script:
    """A gauge that is fed by hand."""

    def __init__(self, lines: Lines | None = None) -> None:
        self.gauge = PressureGauge(lines)
        self.at_s = 0.0

    def stay(
        self, fraction: float, seconds: float = 0.1, promised: float = 0.0, inside: float = 0.0
    ) -> PressureNow:
        """Let use stand at a share of the capacity for some time."""
        for _ in range(max(1, round(seconds / 0.1))):
            self.at_s += 0.1
            used, rest, kept = (int(each * CAPACITY) for each in (fraction, promised, inside))
            now = self.gauge.observe(self.at_s, used, rest, kept, CAPACITY)
        return now

    def calm(self) -> None:
        """Let the rate of growth be forgotten."""
        self.at_s += 10


@pytest.mark.requirement("T5.1", "R6.1")
@pytest.mark.parametrize(
    ("fraction", "state"),
    [
        (0.5, "NORMAL"),
        (0.79, "NORMAL"),
        (0.8, "ELEVATED"),
        (0.9, "HIGH"),
        (0.95, "CRITICAL"),
        (1.2, "CRITICAL"),
    ],
)
def test_each_line_begins_a_state(fraction: float, state: str) -> None:
    """At 80, 90 and 95 % of the capacity, at the first look."""
    assert Script().stay(fraction).state.name == state


def test_worse_is_believed_at_once_and_better_when_it_lasts() -> None:
    """Critical ends below its lower line after a second of calm, and passes through recovering."""
    script = Script()
    assert script.stay(0.96).state is Pressure.CRITICAL
    assert script.stay(0.91, 5).state is Pressure.CRITICAL  # below the line, not below the lower one
    assert script.stay(0.89, 0.5).state is Pressure.CRITICAL
    assert script.stay(0.89, 1).state is Pressure.RECOVERING
    assert script.stay(0.89, 5).state is Pressure.RECOVERING
    assert script.stay(0.84, 1.2).state is Pressure.ELEVATED
    assert script.stay(0.76, 5).state is Pressure.ELEVATED
    assert script.stay(0.74, 1.2).state is Pressure.NORMAL


def test_recovering_is_left_for_the_worse_at_once() -> None:
    """Who thaws too much is critical again at the next look."""
    script = Script()
    script.stay(0.96)
    assert script.stay(0.7, 1.2).state is Pressure.RECOVERING
    script.calm()
    assert script.stay(0.96).state is Pressure.CRITICAL


def test_a_flicker_around_a_line_changes_nothing() -> None:
    """Use that swings by less than the hysteresis never ends a state."""
    script = Script()
    script.stay(0.91)
    seen = set()
    for turn in range(100):
        script.calm()
        seen.add(script.stay(0.91 if turn % 2 else 0.87).state)
    assert seen == {Pressure.HIGH}


@pytest.mark.requirement("T5.3")
def test_what_fills_fast_is_critical_early() -> None:
    """At half of the capacity, with a quarter of a second left at this rate, it is an emergency; slowly it is none."""
    fast, slow = Script(), Script()
    fast.stay(0.3)
    now = fast.stay(0.5)
    assert now.state is Pressure.CRITICAL
    assert now.time_to_full_s == pytest.approx(0.25)
    slow.stay(0.49)
    assert slow.stay(0.5).state is Pressure.NORMAL


def test_what_was_promised_frightens_nobody() -> None:
    """A job that takes what was promised to it, however fast, is no pressure until the lines are reached."""
    script = Script()
    for step in range(7):
        now = script.stay(0.1 * step, promised=0.7 - 0.1 * step, inside=0.1 * step)
        assert (now.state, now.time_to_full_s) == (Pressure.NORMAL, math.inf)


def test_looks_follow_the_time_that_is_left() -> None:
    """One second where nothing grows, an eighth of the time that is left where it does, ten milliseconds at least."""
    script = Script()
    assert script.stay(0.1).next_look_s == 1.0
    script.stay(0.5)
    growing = script.stay(0.52)
    assert growing.next_look_s == pytest.approx(growing.time_to_full_s / 8)
    script.stay(0.7)
    assert script.stay(0.94).next_look_s == 0.01


@given(
    st.lists(
        st.tuples(st.floats(0.001, 2), st.integers(0, 2 * CAPACITY), *[st.integers(0, CAPACITY)] * 2),
        min_size=1,
    )
)
def test_any_history_gives_a_state_and_a_look(history: list[tuple[float, int, int, int]]) -> None:
    """Whatever is read, the state fits the line that use is over, and the next look comes in time."""
    gauge, at_s = PressureGauge(), 0.0
    for elapsed_s, used, promised, inside in history:
        at_s += elapsed_s
        now = gauge.observe(at_s, used, promised, inside, CAPACITY)
        assert 0.01 <= now.next_look_s <= 1.0
        assert now.since_s <= at_s
        if used >= 0.95 * CAPACITY:
            assert now.state is Pressure.CRITICAL
        if used >= 0.9 * CAPACITY:
            assert now.state >= Pressure.HIGH


def test_no_capacity_is_critical() -> None:
    """A limit of nothing leaves nothing."""
    assert PressureGauge().observe(1.0, 5, 0, 0, 0).state is Pressure.CRITICAL


def test_a_rate_sees_a_burst_and_not_the_past() -> None:
    """The larger of a short and a long window; what was a second ago does not count."""
    rate = FillRate()
    assert rate.observe(0.0, 0) == 0.0
    assert rate.observe(0.5, 500) == 1000.0
    assert rate.observe(0.55, 1000) == pytest.approx(10_000)
    assert rate.observe(3.0, 1000) == 0.0


@pytest.mark.parametrize(
    "wrong", [{"elevated": 0.95}, {"critical": 1.1}, {"hysteresis": 0.9}, {"hysteresis": 0}]
)
def test_lines_are_in_order(wrong: dict[str, float]) -> None:
    """Lines that make no ladder are refused."""
    with pytest.raises(ValueError, match="not in order"):
        Lines(**wrong)


def test_a_promise_fills_nothing() -> None:
    """When much of a machine is promised at once, or a promise ends, that is no growth: nobody took anything."""
    script = Script()
    for promised in (0.0, 0.85, 0.0, 0.6, 0.9):
        now = script.stay(0.05, promised=promised)
        assert (now.state, now.fill_bytes_per_s) == (Pressure.NORMAL, 0.0)


def test_what_is_in_doubt_is_no_growth() -> None:
    """Jobs that fill what they were promised are measured a moment after the machine: that much may be too much."""
    rate = FillRate()
    assert rate.observe(0.0, 100, doubt_bytes=50) == 0.0
    assert rate.observe(0.5, 140, doubt_bytes=50) == 0.0
    assert rate.observe(1.0, 300, doubt_bytes=50) == pytest.approx((250 - 140) / 0.5)


def test_the_end_of_a_job_fills_nothing() -> None:
    """Its promise is gone at once and its memory a moment later; what is freed then fills nothing either."""
    rate = FillRate()
    for at_s, used, inside in [(0.0, 800, 700), (0.1, 800, 0), (0.2, 400, 0), (0.3, 100, 0), (1.2, 100, 0)]:
        assert rate.observe(at_s, used, inside) == 0.0
    assert rate.observe(1.3, 200, 0) == pytest.approx(1000)
