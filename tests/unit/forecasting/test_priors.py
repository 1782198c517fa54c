"""First principles and the first jobs together: narrower than either where they agree, wider where they were wrong."""

from __future__ import annotations

import dataclasses

import pytest

from memguard.estimate import Estimate
from memguard.estimate.likeness import Likeness
from memguard.forecasting import Forecaster
from memguard.forecasting.past import PastJob
from memguard.forecasting.priors import PRIOR, with_prior
from memguard.sizing import Sizing
from memguard.units import MIB

KIND = "fit"


def estimate(expected_mib: float) -> Estimate:
    """An estimate whose high figure is a third above what it expects."""
    size = int(expected_mib * MIB)
    return Estimate(size, size, size * 4 // 3, ("counted",))


def job(
    serial: int, used_mib: float, *, rows: float = 1000.0, prior_mib: float = 300, died: bool = False
) -> PastJob:
    """A job that has ended."""
    features = {"rows": rows, PRIOR: float(prior_mib * MIB)}
    used = used_mib * MIB
    return PastJob(f"job-{serial}", KIND, "", features, None if died else used, used if died else None, 1.0)


def sized(*past: PastJob, rows: float = 1000.0, prior_mib: float = 300) -> Sizing:
    """What is said of a job after that past."""
    forecaster = Forecaster(None, 0.05)
    for each in past:
        forecaster._learn(each)
    return forecaster.size("", Likeness(KIND, {"rows": rows}), prior=estimate(prior_mib), tentative=True)


def predicted(sizing: Sizing) -> float:
    """What is to be reserved, in MiB."""
    assert sizing.predicted_bytes is not None
    return sizing.predicted_bytes / MIB


def test_each_run_of_the_same_job_reserves_less_and_never_less_than_was_used() -> None:
    """From the first observation on the size falls from the estimate towards the peak."""
    sizes = [predicted(sized(*(job(serial, 200) for serial in range(count)))) for count in range(4)]
    assert sizes[0] == 400
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4
    assert sizes[1] == pytest.approx(300, abs=1)
    assert sizes[3] >= 200


def test_it_names_the_job_that_made_it_so_and_by_how_much() -> None:
    """With one past job the whole difference to the estimate is that job's."""
    sizing = sized(job(1, 200))
    assert [(each.id, each.moved_bytes) for each in sizing.episodes] == [("job-1", -100 * MIB)]
    assert "1 job exactly like it used at most 200 MiB" in sizing.reasons[0]


def test_an_estimate_that_was_too_small_is_scaled_by_what_was_used() -> None:
    """A job that needed half as much again as its estimate makes the next one larger than that says."""
    assert predicted(sized(job(1, 600))) >= 600
    assert predicted(sized(job(1, 600, rows=10), rows=1000)) >= 600


def test_a_job_that_was_killed_makes_nothing_tighter() -> None:
    """What it would have needed nobody knows, so the size is above the limit that it was killed for."""
    assert predicted(sized(job(1, 350, died=True))) >= 400
    assert predicted(sized(job(1, 500, died=True))) > 500


def test_another_job_of_the_kind_keeps_to_the_estimate() -> None:
    """One job of other sizes does not make a guess of four times the estimate."""
    sizing = sized(job(1, 200, rows=10), rows=1000)
    assert predicted(sizing) == 400
    assert sizing.episodes == ()


def test_the_job_that_an_estimate_was_worst_for_is_named() -> None:
    """It, and no other, makes the size larger than the estimate says."""
    sizing = sized(job(1, 310, rows=10), job(2, 330, rows=20), rows=1000)
    assert predicted(sizing) == pytest.approx(440, abs=1)
    assert [each.id for each in sizing.episodes] == ["job-2"]
    assert sizing.episodes[0].moved_bytes == pytest.approx(40 * MIB, rel=0.01)


def test_a_job_larger_than_all_past_ones_gets_at_least_its_proportion() -> None:
    """Many equal jobs promise nothing for one of ten times the estimate."""
    past = [job(serial, 200) for serial in range(40)]
    assert sized(*past).promised
    larger = sized(*past, rows=10_000, prior_mib=3000)
    assert predicted(larger) >= 2000
    assert not larger.promised


def test_what_is_promised_is_left_as_it_is() -> None:
    """With history enough an estimate changes nothing of a job like the others."""
    past = [job(serial, 200 + serial % 3) for serial in range(40)]
    bare = Forecaster(None, 0.05)
    for each in past:
        bare._learn(each)
    likeness = with_prior(Likeness(KIND, {"rows": 1000.0}), estimate(300))
    assert (
        sized(*past).predicted_bytes == bare.estimator.predict(KIND, likeness.features, tentative=True).bytes
    )


def test_a_withdrawn_job_counts_no_more() -> None:
    """The size is the estimate's again."""
    forecaster = Forecaster(None, 0.05)
    forecaster._learn(job(1, 200))
    forecaster.experience.withdraw(KIND, "job-1")
    forecaster.estimator.withdraw(KIND, "job-1")
    again = forecaster.size("", Likeness(KIND, {"rows": 1000.0}), prior=estimate(300), tentative=True)
    assert predicted(again) == 400


def test_a_job_that_is_told_twice_counts_once() -> None:
    """From this process and from the store comes the same job."""
    assert sized(job(1, 200), job(1, 200)) == sized(job(1, 200))


def test_a_user_figure_makes_no_other_job_of_it() -> None:
    """The same job under another request is the same job."""
    asked = dataclasses.replace(job(1, 200), features={**job(1, 200).features, "request_bytes": 900.0 * MIB})
    assert predicted(sized(asked)) == predicted(sized(job(1, 200)))
