"""The past is read from the store, and from what waits beside it; once each, and without what was withdrawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memguard.config import load_settings
from memguard.episodes import Episode, EpisodeStore
from memguard.episodes.recorder import INCOMING, Recorder, _key_of
from memguard.estimate.likeness import Likeness
from memguard.forecasting.forecaster import Forecaster
from memguard.forecasting.past import Past, has_past, past_of
from tests.support.episodes import report_of_a_job

MIB = 1 << 20


def job(number: int, peak: int, kind: str = "fit", **changed: Any) -> Episode:
    """Return the episode of a job as it is recorded, as far as forecasts need it."""
    sizing = {"kind": kind, "world": "here", "features": {"rows": float(number)}}
    metadata = {"outcome": "completed", "peak_bytes": peak, "duration_s": 1.0, "budget_bytes": 99 * MIB}
    return Episode(
        id=f"job-{number}",
        kind="job",
        namespace="jobs",
        text="a job",
        metadata={**metadata, "sizing": sizing, **changed},
    )


def test_a_look_tells_what_is_new_and_what_was_withdrawn(tmp_path: Path) -> None:
    """Each job is told once, oldest first; one that was deleted is withdrawn, one that was replaced is both."""
    with EpisodeStore(tmp_path) as store:
        store.add_episodes([job(1, MIB), job(2, 2 * MIB), job(3, MIB, kind="other")])
        past = Past(tmp_path)
        assert [each.id for each in past.news("fit").jobs] == ["job-1", "job-2"]
        assert past.news("fit").jobs == ()
        store.add_episodes([job(4, 4 * MIB)])
        store.delete("job-1")
        store.update("job-2", metadata=job(2, 7 * MIB).metadata)
        look = past.news("fit")
        assert sorted(look.withdrawn) == ["job-1", "job-2"]
        assert {each.id: each.peak_bytes for each in look.jobs} == {"job-2": 7 * MIB, "job-4": 4 * MIB}


def test_a_poisoned_record_that_is_deleted_moves_no_forecast(tmp_path: Path) -> None:
    """What the store does not hold any more is forgotten by who has learned it already, a correction is learned."""
    with EpisodeStore(tmp_path) as store:
        store.add_episodes([job(number, 50 * MIB) for number in range(1, 4)] + [job(9, 900 * MIB)])
        forecaster = Forecaster(tmp_path, 0.05)
        alike = Likeness("fit", {"rows": 2.0}, "here")
        before = forecaster.size("a", alike)
        store.delete("job-9")
        after = forecaster.size("b", alike)
        assert before.observations == after.observations + 1 == 4
        assert "job-9" not in [each.id for each in after.episodes]
        assert after.predicted_bytes is not None
        assert before.predicted_bytes is not None
        assert after.predicted_bytes < before.predicted_bytes
        store.update("job-1", metadata=job(1, 60 * MIB).metadata)
        assert forecaster.size("c", alike).observations == 3


def test_there_need_be_no_store(tmp_path: Path) -> None:
    """Where nothing was recorded nothing is known, and nothing is made."""
    assert Past(tmp_path / "none").news("fit").jobs == ()
    assert not (tmp_path / "none").exists()


def test_a_damaged_store_is_told_and_keeps_no_job_from_being_sized(tmp_path: Path) -> None:
    """A forecast without a past is all that is lost."""
    (tmp_path / "episodes.sqlite").write_bytes(b"no database" * 1000)
    forecaster = Forecaster(tmp_path, 0.05)
    assert forecaster.size("a", Likeness("fit")).predicted_bytes is None
    assert "could not be read" in forecaster.trouble


def test_what_tells_nothing_of_a_peak_is_not_learned() -> None:
    """A job that failed for another reason than memory may have been far from its peak."""
    told = job(1, MIB).metadata
    assert past_of("1", {**told, "outcome": "raised"}) is None
    killed = past_of("1", {**told, "outcome": "budget_kill"})
    assert killed is not None
    assert (killed.peak_bytes, killed.exceeded_bytes) == (None, 99 * MIB)
    chosen = past_of("1", {**told, "outcome": "budget_kill", "reason": "machine_pressure"})
    assert chosen is not None
    assert chosen.exceeded_bytes == MIB
    for wrong in ({}, {"sizing": 3}, {**told, "peak_bytes": "much"}, {**told, "peak_bytes": float("nan")}):
        assert past_of("1", wrong) is None


def test_jobs_of_this_process_are_read_back_and_count_once(tmp_path: Path) -> None:
    """What was learned when it ended is met again in the store: no attempt is left open by that, and none counts twice."""
    forecaster = Forecaster(tmp_path, 0.05)
    alike = Likeness("fit", {"rows": 2.0}, "here")
    with EpisodeStore(tmp_path) as store:
        for number in range(1, 5):
            forecaster.size(str(number), alike)
            forecaster.estimator.observe(
                "fit", alike.features, peak_bytes=50 * MIB, job_id=f"job-{number}", world="here"
            )
            store.add_episodes([_with_forecast(job(number, 50 * MIB))])
            store.add_episodes([_with_forecast(job(number + 100, 50 * MIB))])
        told = forecaster.size("last", alike)
    assert told.observations == 8
    assert any("8 jobs ended and 0 have not" in reason for reason in told.reasons)


def _with_forecast(episode: Episode) -> Episode:
    sizing = {**episode.metadata["sizing"], "predicted_bytes": 60 * MIB, "uncorrected_bytes": 60 * MIB}
    return replace(episode, metadata={**episode.metadata, "sizing": sizing})


@pytest.mark.parametrize("purge", [False, True])
def test_a_job_that_is_deleted_before_it_was_seen_in_the_store_counts_no_more(
    tmp_path: Path, purge: bool
) -> None:
    """Who ran it knows it before it is taken in, and forgets it although no look ever met it there."""
    settings = load_settings({"episodes": str(tmp_path)})
    recorder, forecaster = Recorder(settings, pytest.fail), Forecaster(tmp_path, 0.05)
    reports = []
    for _ in range(2):
        report = report_of_a_job()
        sizing = forecaster.size(report.job_id, Likeness("fit", world="here"))
        reports.append(replace(report, sizing=sizing))
        forecaster.learn(reports[-1])
        recorder.job(reports[-1])
    with EpisodeStore(tmp_path) as store:
        store.delete(f"job-{reports[1].job_id}", purge=purge)
    found = forecaster.size("next", Likeness("fit", world="here"))
    assert [each.id for each in found.episodes] == [f"job-{reports[0].job_id}"]


def test_the_oldest_that_is_purged_is_withdrawn(tmp_path: Path) -> None:
    """Nothing of its row tells the kind any more, and it lies before all that are left: it is not taken for aged."""
    with EpisodeStore(tmp_path) as store:
        store.add_episodes([job(1, MIB), job(2, MIB), job(3, MIB)])
        past = Past(tmp_path)
        assert len(past.news("fit").jobs) == 3
        store.delete("job-1", purge=True)
        assert past.news("fit").withdrawn == ("job-1",)
        store.forget_old("jobs", 1, 1)
        assert past.news("fit").withdrawn == ()


def test_another_store_in_the_same_place_is_read_from_its_beginning(tmp_path: Path) -> None:
    """Who deletes the folder to forget everything may have a process that lives on: it learns what comes."""
    past = Past(tmp_path / "store")
    with EpisodeStore(tmp_path / "store") as store:
        store.add_episodes([job(1, MIB, kind="other"), job(2, MIB), job(3, MIB)])
    assert len(past.news("fit").jobs) == 2
    (tmp_path / "store").rename(tmp_path / "gone")
    with EpisodeStore(tmp_path / "store") as store:
        store.add_episodes([job(4, MIB)])
    look = past.news("fit")
    assert [each.id for each in look.jobs] == ["job-4"]
    assert set(look.withdrawn) == {"job-2", "job-3"}


def test_a_folder_that_cannot_be_looked_into_keeps_no_job_from_running(tmp_path: Path) -> None:
    """What waits beside the store may be another user's: that there may be a past is all that is said of it."""
    (tmp_path / INCOMING).symlink_to(INCOMING)  # to look into it fails for everybody, the superuser too
    assert has_past(tmp_path, "fit")
    forecaster = Forecaster(tmp_path, 0.05)
    assert forecaster.size("a", Likeness("fit")).basis == "nothing"
    assert "could not be read" in forecaster.trouble


@pytest.mark.parametrize(
    "changed",
    [
        {"peak_bytes": 10**400},
        {"duration_s": -(10**400)},
        {"sizing": {"kind": "fit", "world": "here", "features": {"rows": "many", "prior_bytes": None}}},
        {"phases": [{"name": "fit", "peak_bytes": 10**400}], "batches": {"largest_rows": 10**400}},
    ],
    ids=["peak", "duration", "features", "phases"],
)
def test_figures_that_are_none_keep_no_job_from_being_sized(tmp_path: Path, changed: dict[str, Any]) -> None:
    """A figure too large for a number, or a word in its place, is left out, and what else is known counts."""
    place = tmp_path / INCOMING
    place.mkdir()
    for number, more in ((1, {}), (2, changed)):
        told = job(number, MIB)
        episode = {"id": told.id, "metadata": {**told.metadata, **more}}
        (place / f"{number}.{_key_of('fit')}.json").write_text(json.dumps({"episodes": [episode]}))
    (place / f"3.{_key_of('fit')}.json").write_text('{"episodes": [{"id": "job-3", "metadata": []}]}')
    found = Forecaster(tmp_path, 0.05).size("a", Likeness("fit", {"rows": 1.0}, "here"))
    assert found.observations >= 1


def test_of_what_waits_for_ever_only_the_newest_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no store can be kept, a forecast opens no more files than it would read rows."""
    monkeypatch.setattr("memguard.forecasting.past._MOST_JOBS", 3)
    place = tmp_path / INCOMING
    place.mkdir()
    past = Past(tmp_path)
    for number in range(10):
        told = job(number, MIB)
        content = {"episodes": [{"id": told.id, "metadata": dict(told.metadata)}]}
        (place / f"{number:03d}.{_key_of('fit')}.json").write_text(json.dumps(content))
    assert [each.id for each in past.news("fit").jobs] == ["job-7", "job-8", "job-9"]
    assert past.news("fit").jobs == ()
