"""When a forecast may promise: rounds are counted, not only jobs, and what speaks against the rate suspends it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from memguard.estimate import OnlineEstimator, Prediction
from memguard.estimate.calibration import Watch
from memguard.estimate.headroom import Law, sure_rate
from memguard.estimate.rounds import Rounds

GB = 1e9
Peak = Callable[[random.Random, int], float]


def leap(chance: random.Random, number: int) -> float:
    return (6 if number >= 80 else 2) * GB * chance.lognormvariate(0, 0.05)


def drift(chance: random.Random, number: int) -> float:
    return (2 + number / 40) * GB * chance.lognormvariate(0, 0.08)


def waves(peak: Peak, wave: int, count: int = 160) -> list[tuple[Prediction, float]]:
    estimator, chance, found = OnlineEstimator(), random.Random(5), []
    for first in range(0, count, wave):
        jobs = [
            (estimator.predict("fit", job_id=str(number), explain=False), peak(chance, number), number)
            for number in range(first, min(count, first + wave))
        ]
        for prediction, needed, number in jobs:
            estimator.observe("fit", peak_bytes=needed, job_id=str(number))
            found.append((prediction, needed))
    return found


@pytest.mark.parametrize("peak", [leap, drift])
@pytest.mark.parametrize("wave", [1, 2, 40])
def test_what_is_promised_is_kept(peak: Peak, wave: int) -> None:
    """Of the jobs that came with a promise no more than 5 % and one were missed, however the world moves."""
    promised = [(each.bytes, needed) for each, needed in waves(peak, wave) if each.promised]
    missed = sum(needed > size for size, needed in promised)
    assert missed <= 0.05 * len(promised) + 1
    assert bool(promised) == (wave < 40)


def test_jobs_beside_each_other_are_one_round() -> None:
    """Forty jobs begun at once are one round; one after another they are forty."""
    beside, apart = Rounds(), Rounds()
    begun = [beside.begin() for _ in range(40)]
    for left, began in enumerate(reversed(begun)):
        beside.end(began, 39 - left)
    for _ in range(40):
        apart.end(apart.begin(), 0)
    assert (beside.done, apart.done) == (1, 40)


def test_jobs_that_are_mistaken_for_each_other_end_rounds_too() -> None:
    """Where ends are taken for those of jobs begun before, a round is over when more ended than ran at its start."""
    rounds = Rounds()
    for _ in range(40):
        rounds.begin()
        rounds.end(-1, 3)
    assert rounds.done == 10


def test_misses_that_come_together_suspend_the_promise() -> None:
    """After two misses in a row nothing is promised, after a row of held ones it is again."""
    watch = Watch(0.05)
    for excess in (-0.1,) * 30:
        watch.count(excess)
    assert watch.is_calm()
    for _ in range(2):
        watch.count(0.2)
    assert not watch.is_calm()
    for _ in range(20):
        watch.count(-0.1)
    assert watch.is_calm()


def test_a_leap_is_paid_for_once_and_a_drift_while_it_lasts() -> None:
    """What one round needed more is in the history after it; what two rounds needed is added."""
    once, again = Watch(0.05), Watch(0.05)
    for number in range(40):
        once.count(-0.1, -0.1, number)
        again.count(-0.1, -0.1, number)
    for number in range(8):
        once.count(1.0, 1.0, 40)
        again.count(1.0, 1.0, 40 + number // 4)
    assert once.extra() == 0
    assert again.extra() == pytest.approx(1.0)


def test_a_job_outside_of_what_was_seen_is_sized_by_the_slope_there() -> None:
    """Where neighbours and a line are beaten by a curve, three times the largest input still gets what it needs."""
    estimator, chance = OnlineEstimator(), random.Random(4)
    for _ in range(60):
        rows = chance.uniform(1e3, 1e4)
        peak = 1e9 + (1e6 * (rows - 5e3) if rows > 5e3 else 0)
        estimator.observe("fit", {"rows": rows}, peak_bytes=peak * chance.lognormvariate(0, 0.03))
    assert 1.5e10 < estimator.predict("fit", {"rows": 2e4}).bytes < 8e10


def test_what_is_easy_to_guess_gets_less_headroom() -> None:
    """Small jobs that always need the same are not given what large ones, which differ, need."""
    estimator, chance = OnlineEstimator(), random.Random(4)
    for _ in range(120):
        rows = chance.uniform(1e3, 1e5)
        spread = 0.01 if rows < 5e4 else 0.4
        estimator.observe("fit", {"rows": rows}, peak_bytes=1e5 * rows * chance.lognormvariate(0, spread))
    small, large = (estimator.predict("fit", {"rows": rows}).bytes / rows for rows in (3e4, 8e4))
    assert 1e5 < small < 1.3e5 < large


def test_the_aim_spares_half_a_deviation() -> None:
    """What is aimed at lies below the rate, by less the more jobs are known; one absurd score is no headroom of all."""
    few, many = sure_rate(0.05, 60), sure_rate(0.05, 10_000)
    assert 0.03 < few < many < 0.05
    law = Law([*(number / 100 for number in range(60)), 9.0], [1.0] * 61)
    assert law.floor(0.05, 0.05, 61, 0.3) < 0.6
