"""Parts of a job: what each and those behind it need, from past jobs and from plans."""

from __future__ import annotations

from memguard.estimate.forecast import Prediction
from memguard.estimate.likeness import Likeness
from memguard.forecasting.past import PastJob, peaks_of_phases
from memguard.forecasting.phases import PhaseBook, PhasePlan, scaled_phases

PEAKS = {"read": 10, "expand": 60, "select": 100, "fit": 40, "write": 50}


def job(serial: int, peak: float, phases: dict[str, float]) -> PastJob:
    """A job that completed."""
    return PastJob(f"job-{serial}", "fit", "", {}, peak, None, 1.0, phases=phases)


def whole(size: int, basis: str = "history") -> Prediction:
    """A forecast of the whole."""
    return Prediction(size, size, size, size, 0.05, False, 3, (), basis=basis)


def test_what_is_needed_falls_once_the_peak_has_passed() -> None:
    """A part needs the most of itself and of those behind it: small ones before the peak need all of it."""
    plan = PhasePlan(PEAKS)
    assert [plan.needed(name) for name in PEAKS] == [100, 100, 100, 50, 50]


def test_an_unknown_part_says_nothing_and_one_that_comes_back_needs_all() -> None:
    """Who goes round may come to the largest part again."""
    plan = PhasePlan(PEAKS)
    assert plan.needed("fit") == 50
    assert plan.needed("something else") is None
    assert plan.needed("write") == 50
    assert plan.needed("fit") == 100
    assert plan.needed("write") == 100


def test_the_largest_part_has_all_that_is_reserved() -> None:
    """The others have their share of it; where nothing is known of parts, none has any."""
    assert scaled_phases(PEAKS, 1000) == {name: 10 * peak for name, peak in PEAKS.items()}
    assert scaled_phases({}, 1000) == {}


def test_shares_are_the_largest_of_recent_jobs() -> None:
    """A part is forecast by its largest share of the whole; two jobs say too little."""
    book = PhaseBook()
    for serial, (big, small) in enumerate([(100, 20), (200, 60), (400, 80)]):
        assert book.forecast(Likeness("fit"), whole(1000)) == {}
        book.learn(job(serial, big, {"big": big, "small": small}))
    assert book.forecast(Likeness("fit"), whole(1000)) == {"big": 1000, "small": 300}
    assert book.forecast(Likeness("fit"), whole(1000, "elsewhere")) == {}


def test_a_job_that_came_back_to_a_part_has_no_order() -> None:
    """Its parts are not forecast."""
    assert peaks_of_phases([("a", 1.0), ("b", 2.0)]) == {"a": 1.0, "b": 2.0}
    assert peaks_of_phases([("a", 1.0), ("b", 2.0), ("a", 3.0)]) == {}
