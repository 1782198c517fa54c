"""Jobs and incidents become episodes where a setting says so: what is kept, what never is, and that it harms no job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memguard import MemoryManager, Outcome
from memguard.config import load_settings
from memguard.episodes import Episode, EpisodeStore
from memguard.episodes.recorded import shape_of, shapes_of
from memguard.episodes.recorder import INCOMING, Recorder, has_incoming, take_in
from memguard.events import Event
from memguard.ledger.book import LedgerBook
from memguard.ledger.place import ledger_folder
from memguard.ledger.records import Action
from memguard.ledger.room import room_for
from tests.support.episodes import report_of_a_job
from tests.support.guarded import by_value

by_value(__name__)
ROOT = Path(__file__).resolve().parents[2]
SECRET = "hunter2-do-not-keep"
VALUE = 271828.1828


def fit(table: Any, *, rounds: int, password: str, api_key: int, label: str) -> int:
    """Stand for a fit: say where it is, note what it finds, fail at what it was given."""
    import memguard

    job = memguard.current_job()
    assert job is not None
    job.phase("expand")
    job.note("pool_peak_bytes", 12345)
    job.note("best", f"{table[0, 0]} {password}")
    if rounds > 5:
        raise ValueError(f"{table[0, 0]} cannot be used with {password}")
    return int(table.shape[0]) + rounds


def recorded(folder: Path) -> dict[str, list[Episode]]:
    with EpisodeStore(folder) as store:
        found: dict[str, list[Episode]] = {}
        for each in store.episodes(namespace="jobs"):
            found.setdefault(each.kind, []).append(each)
        return found


def test_a_job_becomes_an_episode_without_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shape, figures, phases, outcome and versions are there; no value, secret, environment or words of an error are."""
    monkeypatch.setenv("DATABASE_PASSWORD", SECRET)
    settings = load_settings({"episodes": str(tmp_path / "store")})
    table = np.full((40, 3), VALUE)
    words: dict[str, Any] = {"password": SECRET, "api_key": 424242424242, "label": SECRET}
    with MemoryManager("1GiB", settings=settings) as manager:
        result = manager.run(fit, table, rounds=3, memory="200MiB", name="train", **words)
        failed = manager.run(fit, table, rounds=9, memory="200MiB", check=False, **words)
        with manager.managed_processing("block", memory="100MiB") as block:
            block.phase("read")
    assert result.value == 43
    assert failed.report.outcome is Outcome.RAISED
    everything = b"".join(each.read_bytes() for each in (tmp_path / "store" / INCOMING).iterdir())
    done, raised, managed = recorded(tmp_path / "store")["job"]
    assert not has_incoming(tmp_path / "store")
    everything += b"".join(each.read_bytes() for each in (tmp_path / "store").glob("*.sqlite*"))
    for forbidden in (SECRET, str(VALUE), "424242424242", "cannot be used"):
        assert forbidden.encode() not in everything
    known = done.metadata
    assert (known["outcome"], known["job_kind"], known["budget_bytes"]) == (
        "completed",
        "function",
        200 << 20,
    )
    assert known["data"][0] == {
        "name": "0", "type": "numpy.ndarray", "rows": 40, "columns": 3, "dtypes": {"float64": 3}, "bytes": 960,
    }  # fmt: skip
    assert {each["name"]: each.get("value") for each in known["data"][1:]} == {
        "rounds": 3, "password": None, "api_key": "[redacted]", "label": None,
    }  # fmt: skip
    assert [each["name"] for each in known["phases"]] == ["expand"]
    assert known["peak_bytes"] == result.report.peak_bytes
    assert known["figures"] == {"pool_peak_bytes": 12345}
    assert {"memguard", "python", "numpy"} <= known["versions"].keys()
    assert known["machine"]["processors"] >= 1
    assert (raised.metadata["outcome"], raised.metadata["error_type"]) == ("raised", "ValueError")
    assert raised.metadata["fingerprint"] == known["fingerprint"] != managed.metadata["fingerprint"]
    assert (managed.metadata["job_kind"], managed.metadata["phases"][0]["name"]) == ("managed", "read")


def test_a_command_is_found_by_the_shell(tmp_path: Path) -> None:
    """`memguard run` records its command without its secrets, and `memguard episodes` finds and shows it."""
    environment = {**os.environ, "MEMGUARD_EPISODES": str(tmp_path / "store"), "TOKEN": SECRET}
    run = [sys.executable, "-m", "memguard", "run", "--memory", "200MiB", "--name", "probe", "--"]
    code = f"x = '{SECRET}'\nimport sys\nsys.exit(3)"
    words = [sys.executable, "-c", code, "--password", SECRET, "--rows", "40"]
    done = subprocess.run(
        [*run, *words], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (3, "")
    for path in (tmp_path / "store").rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()
    ask = [sys.executable, "-m", "memguard", "episodes", "search", "probe", "--kind", "job", "--json"]
    found = subprocess.run(ask, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    (hit,) = json.loads(found.stdout)["hits"]
    assert SECRET not in found.stdout
    show = [sys.executable, "-m", "memguard", "episodes", "show", hit["id"], "--json"]
    shown = subprocess.run(show, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    known = json.loads(shown.stdout)["metadata"]
    assert (known["exit_status"], known["outcome"], known["name"]) == (3, "raised", "probe")
    assert known["what"].endswith("--password [redacted] --rows 40")


def test_what_the_sentinel_did_is_an_episode_of_its_own(tmp_path: Path) -> None:
    """Each step taken against a job is an incident, with why, and once however often it is taken in."""
    report = report_of_a_job()
    settings = load_settings({"episodes": str(tmp_path / "store")})
    why = "it uses 90 MiB beyond the 10 MiB reserved"
    steps = [
        Action(report.job_id, "train", rung, why, 100 << 20, 10 << 20, None, 5.0, 1_700_000_000.0 + at)
        for at, rung in enumerate(("shed", "frozen", "kill"))
    ]
    recorder = Recorder(settings, pytest.fail)
    recorder.job(report, actions=steps)
    found = recorded(tmp_path / "store")
    assert [each.metadata["rung"] for each in found["incident"]] == ["shed", "frozen", "kill"]
    assert {each.metadata["why"] for each in found["incident"]} == {why}
    assert [each.metadata["job_id"] for each in found["job"]] == [report.job_id]


def test_a_step_against_a_real_block_is_recorded_with_it(tmp_path: Path) -> None:
    """What stands in the ledger of a block when it ends becomes an incident."""
    runtime = ledger_folder(tmp_path / "ledger")
    settings = load_settings(
        {"episodes": str(tmp_path / "store"), "runtime_dir": str(runtime), "capacity": "1GiB"}
    )
    with (
        MemoryManager("500MiB", settings=settings) as manager,
        LedgerBook(runtime, lambda: room_for(settings)) as book,
        manager.managed_processing("held up", memory="100MiB"),
    ):
        (lease,) = book.leases()
        book.note_action(Action(lease.lease_id, lease.name, "wait", "96 % in use", 5, 4, None, 1.0, 1.7e9))
    found = recorded(tmp_path / "store")
    assert [(each.metadata["name"], each.metadata["rung"]) for each in found["incident"]] == [
        ("held up", "wait")
    ]
    assert found["incident"][0].metadata["job_id"] == found["job"][0].metadata["job_id"]
    assert "96 % in use" in found["incident"][0].text


def test_a_store_that_cannot_be_had_costs_no_job_anything(tmp_path: Path) -> None:
    """Where nothing can be written jobs end as ever, and one event of the manager says why, once."""
    (tmp_path / "file").write_text("no folder")
    settings = load_settings({"episodes": str(tmp_path / "file" / "store")})
    events: list[Event] = []
    with MemoryManager("1GiB", settings=settings) as manager:
        manager.events.subscribe(events.append)
        assert [manager.run(os.getppid, memory="64MiB").report.outcome for _ in range(2)] == [
            Outcome.COMPLETED
        ] * 2
    (told,) = [each for each in events if each.name == "memguard.guard_degraded"]
    assert "jobs are not recorded" in str(told.fields["fault"])


def test_a_store_that_somebody_writes_to_keeps_no_job_waiting(tmp_path: Path) -> None:
    """While another one holds the store's lock a job is recorded all the same, and is there when it is opened next."""
    settings = load_settings({"episodes": str(tmp_path / "store")})
    with EpisodeStore(tmp_path / "store") as store:
        with store._database.transaction():
            Recorder(settings, pytest.fail).job(report_of_a_job())
            assert has_incoming(tmp_path / "store")
        assert take_in(store) == 1
        assert len(store) == 1
        assert take_in(store) == 0


def test_what_is_unreadable_is_put_aside(tmp_path: Path) -> None:
    """A torn or foreign file keeps nobody from the others; it stays, under another name."""
    settings = load_settings({"episodes": str(tmp_path / "store")})
    Recorder(settings, pytest.fail).job(report_of_a_job())
    place = tmp_path / "store" / INCOMING
    (place / "a.json").write_text('{"schema": "memguard.recorded/1", "episodes": [{"te')
    (place / "b.json").write_text('{"schema": "another/1"}')
    (place / "c.json").write_text('{"schema": "memguard.recorded/1", "episodes": [{"text": 7}]}')
    (place / ".half.part").write_text("{")
    assert len(recorded(tmp_path / "store")["job"]) == 1
    left = sorted(each.name for each in place.iterdir())
    assert left == [".half.part", *(f"{each}.json.unreadable" for each in "abc")]


def test_a_full_budget_leaves_what_came_in_waiting(tmp_path: Path) -> None:
    """Where the namespace of the jobs is full nothing is lost: it waits until there is room."""
    settings = load_settings({"episodes": str(tmp_path / "store")})
    with EpisodeStore(tmp_path / "store") as store:
        store.set_namespace("jobs", budget=10)
    Recorder(settings, pytest.fail).job(report_of_a_job())
    with EpisodeStore(tmp_path / "store") as store:
        assert has_incoming(store.folder)
        store.set_namespace("jobs", budget=None)
        assert take_in(store) == 1


def test_many_that_wait_are_taken_in_without_anybody_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When too many wait a thread takes them in; nobody waits for it."""
    monkeypatch.setattr("memguard.episodes.recorder._MOST_WAITING", 3)
    recorder = Recorder(load_settings({"episodes": str(tmp_path / "store")}), pytest.fail)
    for _ in range(3):
        recorder.job(report_of_a_job())
    for thread in threading.enumerate():
        if thread.name == "memguard-recorder":
            thread.join(30)
    assert not has_incoming(tmp_path / "store")


class Hostile:
    """Raises at every look."""

    @property
    def shape(self) -> Any:
        raise RuntimeError(SECRET)


@dataclass
class Outside:
    """A record of somebody else's, whose numbers may be data."""

    number: int


@dataclass
class Own:
    """Stands for a record of an integration."""

    rows: int
    columns: tuple[int, ...]
    name: str
    inner: Own | None = None


Own.__module__ = "memguard_integrations.tests"


def test_shapes_tell_no_values() -> None:
    """Frames and arrays are told by their types and sizes, texts by their length, and what raises by its type."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.5, 2.5], "b": ["x", SECRET]})
    told = shapes_of([frame, SECRET, Hostile(), None, True, float("nan"), 2**70, [1, 2, 3]], {"token": 12345})
    assert [each["type"] for each in told[:3]] == [
        f"{type(frame).__module__}.DataFrame", "str", f"{__name__}.Hostile",
    ]  # fmt: skip
    assert (told[0]["rows"], told[0]["columns"], sum(told[0]["dtypes"].values())) == (2, 2, 2)
    assert (told[1]["length"], told[2]["trouble"]) == (len(SECRET), "RuntimeError")
    assert [each.get("value") for each in told[3:7]] == [None, True, "nan", "large"]
    assert told[7]["rows"] == 3
    assert told[8]["value"] == "[redacted]"
    assert SECRET not in json.dumps(told)
    assert shape_of("x", Outside(3)) == {"name": "x", "type": f"{__name__}.Outside"}
    assert shape_of("x", Own(3, (1, 2), "a", Own(4, (), "b"))).get("figures") == {
        "rows": 3,
        "columns_count": 2,
        "inner.rows": 4,
        "inner.columns_count": 0,
    }
    assert shape_of("x", np.float32(3.0))["type"] == "numpy.float32"
