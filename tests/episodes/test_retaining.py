"""What jobs leave behind comes without end: the usual store keeps the newest, with figures and index that fit them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memguard.config import load_settings
from memguard.config.kinds import default_episodes
from memguard.episodes import Episode, EpisodeStore
from memguard.episodes.recorder import INCOMING, Recorder, has_incoming
from memguard.estimate.likeness import Likeness
from memguard.forecasting.forecaster import Forecaster
from memguard.forecasting.past import Past
from tests.support.episodes import report_of_a_job, vectors


def told(number: int, **more: object) -> Episode:
    return Episode(f"text of number{number}", id=str(number), namespace="jobs", **more)  # type: ignore[arg-type]


def some_job(number: int, outcome: str = "completed") -> Episode:
    sizing = {"kind": f"kind {number}", "world": "", "features": {}}
    metadata = {"outcome": outcome, "peak_bytes": 1 << 20, "sizing": sizing}
    return Episode("", kind="job", namespace="jobs", metadata=metadata)


@pytest.mark.parametrize("is_indexed", [True, False])
def test_the_oldest_rows_go_with_all_that_is_theirs(tmp_path: Path, is_indexed: bool) -> None:
    """The newest are found by their words, the others never; figures are those of a store that never had them."""
    with EpisodeStore(tmp_path / "one") as store, EpisodeStore(tmp_path / "other") as other:
        store.add_episodes(told(number, metadata={"number": number}) for number in range(40))
        store.add_episodes([Episode("text elsewhere", namespace="mine", id="mine")])
        if is_indexed:
            store.index()
        assert store.forget_old("jobs", 10, 8) == 8
        assert store.forget_old("jobs", 10, 1000) == 22
        assert store.forget_old("jobs", 10, 1000) == 0
        other.add_episodes(told(number, metadata={"number": number}) for number in range(30, 40))
        other.add_episodes([Episode("text elsewhere", namespace="mine", id="mine")])
        assert [each.id for each in store.episodes(namespace="jobs")] == [str(each) for each in range(30, 40)]
        assert len(store.search_episodes_by_text("text", 100, namespace="jobs")) == 10
        assert not store.search_episodes_by_text("number5", 5, namespace="jobs")
        assert list(store.check()) == []
        for figure in ("episodes", "text_bytes", "used_bytes"):
            assert [getattr(each, figure) for each in store.statistics().namespaces] == [
                getattr(each, figure) for each in other.statistics().namespaces
            ]


def test_replaced_deleted_and_purged_ones_are_counted_once(tmp_path: Path) -> None:
    """Rows that count for nothing any more take nothing away; one with a vector stays; forgotten ids are free again."""
    with EpisodeStore(tmp_path) as store:
        store.add_episodes(told(number) for number in range(4))
        store.add_episodes([told(9, vector=vectors(1)[0])])
        store.update("1", text="now longer than it was")
        store.delete("2")
        store.delete("3", purge=True)
        store.forget_old("jobs", 0, 100)
        figures = store.statistics().namespaces[0]
        assert [each.id for each in store.episodes()] == ["9"]
        assert (figures.episodes, figures.vectors, figures.text_bytes) == (1, 1, len("text of number9"))
        assert list(store.check()) == []
        assert store.add_episode(told(2)) == "2"


def test_the_usual_store_keeps_the_newest_and_a_named_one_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes in drops what is too old where nobody asked for the store, and nothing anywhere else."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("memguard.episodes.recorder._MOST_KEPT", 5)
    usual, named = default_episodes(), tmp_path / "named"
    assert usual is not None
    for folder in (usual, named):
        recorder = Recorder(load_settings({"episodes": str(folder)}), pytest.fail)
        for _ in range(8):
            recorder.job(report_of_a_job())
        with EpisodeStore(folder) as store:
            assert len(list(store.episodes())) == (5 if folder == usual else 8)


def test_where_no_store_can_be_kept_the_newest_wait_in_the_usual_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody can take in does not grow for ever where nobody asked for it; in a named place all of it stays."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("memguard.episodes.recorder._MOST_UNTAKEN", 6)
    monkeypatch.setattr("memguard.episodes.recorder._FORGOTTEN_AT_ONCE", 3)
    usual, named = default_episodes(), tmp_path / "named"
    assert usual is not None
    for folder in (usual, named):
        recorder = Recorder(load_settings({"episodes": str(folder)}), pytest.fail)
        reports = [report_of_a_job() for _ in range(12)]
        for report in reports:
            recorder.job(report)
        waiting = sorted(each.name for each in (folder / INCOMING).iterdir())
        assert len(waiting) == (6 if folder == usual else 12)
        assert [each.job_id in name for each, name in zip(reports[-6:], waiting[-6:], strict=True)] == [
            True
        ] * 6


def test_a_command_that_ends_at_once_takes_in_what_many_left(tmp_path: Path) -> None:
    """Where nothing but wrapped commands record, the folder of what waits does not grow for ever."""
    recorder = Recorder(load_settings({"episodes": str(tmp_path)}), pytest.fail)
    for _ in range(255):
        recorder.job(report_of_a_job())
    assert sum(1 for _ in (tmp_path / INCOMING).iterdir()) == 255
    words = ["-q", "--ledger", "off", "--episodes", str(tmp_path), "--", "true"]
    subprocess.run([sys.executable, "-m", "memguard", "run", *words], check=True)
    assert not has_incoming(tmp_path)


def test_what_a_killed_writer_began_is_swept(tmp_path: Path) -> None:
    """A file that was never finished goes after an hour, one that is being written stays."""
    place = tmp_path / INCOMING
    place.mkdir()
    for name, age_s in (("old", 7200), ("fresh", 0)):
        path = place / f".{name}.json.part"
        path.touch()
        os.utime(path, (time.time() - age_s, time.time() - age_s))
    EpisodeStore(tmp_path).close()
    assert [each.name for each in place.iterdir()] == [".fresh.json.part"]


def test_who_writes_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process or store writes, what waits goes on waiting, and nobody is told of a fault."""
    monkeypatch.setattr("memguard.episodes.recorder._MOST_WAITING", 1)
    monkeypatch.setattr("memguard.episodes.recorder._TRY_EVERY", 1)
    with EpisodeStore(tmp_path) as store, store._database.transaction():
        recorder = Recorder(load_settings({"episodes": str(tmp_path)}), pytest.fail)
        recorder.job(report_of_a_job())
        recorder._take_in()
        assert has_incoming(tmp_path)
    recorder._take_in()
    assert not has_incoming(tmp_path)


def test_a_long_life_remembers_a_bounded_number_of_kinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How far the past of a kind was read is forgotten for those longest not asked for, and read anew."""
    monkeypatch.setattr("memguard.forecasting.past._MOST_KINDS", 3)
    with EpisodeStore(tmp_path) as store:
        store.add_episodes([some_job(0)])
    past = Past(tmp_path)
    assert [len(past.news(f"kind {number}").jobs) for number in (0, 0, 1, 2, 0, 3, 4, 5)] == [1] + [0] * 7
    assert len(past.news("kind 0").jobs) == 1


def test_a_kind_that_the_estimator_dropped_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where more kinds come than are held in memory, one that comes again has its past all the same."""
    monkeypatch.setattr("memguard.estimate.online._MOST_KINDS", 3)
    with EpisodeStore(tmp_path) as store:
        store.add_episodes([some_job(0)])
    forecaster = Forecaster(tmp_path, 0.05)
    seen = [forecaster.size("", Likeness(f"kind {number}")).observations for number in (0, 1, 2, 3, 4, 0)]
    assert seen == [1, 0, 0, 0, 0, 1]
