"""``memguard estimate -- COMMAND``: what would be reserved, why, and whether it fits, without running anything."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from memguard.ledger.waiting import acquire
from memguard.units import MIB
from tests.support.forecasts import keep, memguard, past_job
from tests.support.ledgers import book_in, wish

SCHEMA = json.loads(resources.files("memguard").joinpath("schemas", "estimate-1.json").read_text())
RUN = ("true", "--rows")


def rows(number: int) -> tuple[str, ...]:
    return (*RUN, str(number))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Give a store with jobs of 10 to 40 thousand rows, of which each thousand took 10 MiB."""
    folder = tmp_path / "store"
    keep(folder, [past_job(rows(1000 * (10 + n)), n, 10 * (10 + n)) for n in range(31)])
    return folder


def document(capsys: pytest.CaptureFixture[str], store: Path, *words: str) -> tuple[int, dict[str, Any]]:
    status, out, _ = memguard(capsys, "estimate", "--json", "--episodes", str(store), *words)
    found = dict(json.loads(out))
    jsonschema.validate(found, SCHEMA)
    return status, found


@pytest.mark.requirement("T1.2")
def test_a_command_that_is_known_is_told_its_forecast_and_its_past(
    capsys: pytest.CaptureFixture[str], store: Path
) -> None:
    """Forecast, interval, promise, reasons and the episodes that moved it, with the names and times they have there."""
    status, found = document(capsys, store, "--", *rows(25_000))
    assert (status, found["verdict"], found["can_be_started"]) == (0, "now", True)
    forecast = found["forecast"]
    assert found["reserved_bytes"] == forecast["predicted_bytes"]
    assert (
        200 * MIB < forecast["low_bytes"] <= forecast["expected_bytes"] <= forecast["high_bytes"] < 400 * MIB
    )
    assert forecast["promised"]
    assert forecast["observations"] == found["known"]["jobs"] == 31
    assert found["known"]["largest_bytes"] == 400 * MIB
    assert found["reasons"]
    assert found["episodes"]
    assert {each["name"] for each in found["episodes"]} == {"train"}
    assert all(each["ended_at_s"] > 1_699_999_999 and each["moved_bytes"] for each in found["episodes"])
    _, text, _ = memguard(capsys, "estimate", "--episodes", str(store), "--", *rows(25_000))
    assert text.startswith("true: would reserve ")
    for row in ("forecast", "promise", "because", "moved by", "known", "told by", "budget", "now"):
        assert re.search(rf"^  {row}  ", text, re.MULTILINE), row
    assert "(train, 2023-11-1" in text


@pytest.mark.requirement("R2.1", "R3.3")
def test_a_command_that_cannot_fit_is_told_what_it_would_need_and_what_would_fit(
    capsys: pytest.CaptureFixture[str], store: Path
) -> None:
    """What its likes used at the least is above the budget: 137, with a budget and with rows that would do."""
    status, found = document(capsys, store, "--memory", "150MiB", "--", *rows(39_000))
    assert (status, found["verdict"]) == (137, "never")
    assert found["needed_bytes"] >= 390 * MIB
    (fitting,) = found["would_fit"]
    assert fitting["feature"] == "rows"
    assert 8_000 < fitting["most"] < 15_000
    status, again = document(capsys, store, "--memory", "150MiB", "--", *rows(int(fitting["most"])))
    assert (status, again["verdict"]) == (0, "now")
    _, text, _ = memguard(
        capsys, "estimate", "--memory", "150MiB", "--episodes", str(store), "--", *rows(39_000)
    )
    assert "does not fit its budget of 150 MiB" in text.splitlines()[0]
    assert re.search(r"would fit +--memory \d", text)
    assert f"rows up to {fitting['most']:,.0f} (here 39,000)" in text


def test_an_over_generous_figure_is_told_with_what_it_costs(
    capsys: pytest.CaptureFixture[str], store: Path
) -> None:
    """What would wait idle, and for how many more such jobs it is room."""
    _, found = document(capsys, store, "--memory", "1200MiB", "--", *rows(25_000))
    idle = found["over_generous"]
    assert (idle["named_bytes"], idle["largest_bytes"]) == (1200 * MIB, 400 * MIB)
    assert (idle["idle_bytes"], idle["room_for"], idle["is_reserved"]) == (800 * MIB, 2, False)
    _, text, _ = memguard(
        capsys, "estimate", "--memory", "1200MiB", "--episodes", str(store), "--", *rows(25_000)
    )
    assert "1.2 GiB named, jobs like it used at most 400 MiB: " in text
    assert "800 MiB would wait idle, room for 2 more such jobs" in text
    assert document(capsys, store, "--memory", "800MiB", "--", *rows(25_000))[1]["over_generous"] is None


def test_a_figure_counts_while_few_jobs_are_known(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With three of them all that was named would be reserved, and would wait idle."""
    keep(tmp_path, [past_job(rows(1000), n, 50) for n in range(3)])
    _, found = document(capsys, tmp_path, "--memory", "500MiB", "--", *rows(1000))
    assert found["reserved_bytes"] == 500 * MIB
    assert found["over_generous"]["is_reserved"]
    assert not found["forecast"]["promised"]


@pytest.mark.requirement("R6.1")
def test_a_command_that_would_wait_is_told_who_has_the_memory(
    capsys: pytest.CaptureFixture[str], store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status 125, as `memguard run` ends with if it may not wait; the holder is named, and nothing is left in line."""
    ledger = tmp_path / "ledger"
    ledger.mkdir(mode=0o700)
    monkeypatch.setenv("MEMGUARD_RUNTIME_DIR", str(ledger))
    terabyte = 1 << 20
    book = book_in(ledger, 2 * terabyte * MIB)
    with acquire(book, wish("glutton", terabyte)):
        status, found = document(capsys, store, "--", *rows(25_000))
        assert (status, found["verdict"], found["free_bytes"]) == (125, "waits", 0)
        assert "glutton" in found["why"]
        assert [each.name for each in book.leases()] == ["glutton"]
        assert document(capsys, store, "--ledger", "off", "--", *rows(25_000))[0] == 0
    book.close()
    assert document(capsys, store, "--", *rows(25_000))[0] == 0


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--", "nosuch-program"), 127, "not found"),
        (("--", ""), 127, "name is empty"),
        (("--", "/etc"), 126, "cannot be executed"),
        (("--memory", "999TB", "--", "true"), 2, "more than there is"),
        (("--memory", "much", "--", "true"), 2, "much"),
        (("--",), 2, "name a command"),
        ((), 2, "name a command"),
        (("--kind", "x", "--", "true"), 2, "--calibration"),
        (("--calibration", "--", "true"), 2, "not both"),
    ],
)
def test_what_cannot_be_run_is_told_with_the_status_of_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...], status: int, said: str
) -> None:
    """A command that is not there, a figure that is none, no command at all."""
    found = memguard(capsys, "estimate", "--episodes", str(tmp_path), *words)
    assert found[0] == status
    assert said in found[2]


@pytest.mark.parametrize(
    ("setting", "trouble"),
    [
        (("MEMGUARD_EPISODES", "unset"), "no jobs are recorded (setting episodes)"),
        (("MEMGUARD_FORECAST", "off"), "forecasts are off (setting forecast)"),
    ],
)
def test_without_a_past_the_usual_share_is_told(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    setting: tuple[str, str],
    trouble: str,
) -> None:
    """What is switched off is named, and what would be reserved without a forecast is told."""
    monkeypatch.setenv(*setting)
    status, out, _ = memguard(capsys, "estimate", "--json", "--", "true")
    found = json.loads(out)
    jsonschema.validate(found, SCHEMA)
    assert (status, found["forecast"], found["troubles"]) == (0, None, [trouble])
    assert found["reserved_bytes"] > 0


def test_a_damaged_store_is_told_and_the_rest_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Jobs are sized as without a past, and nothing of the store is touched."""
    damaged = tmp_path / "episodes.sqlite"
    damaged.write_bytes(b"no database" * 1000)
    status, found = document(capsys, tmp_path, "--", "true")
    assert (status, found["forecast"]) == (0, None)
    assert "past jobs could not be read" in found["troubles"][0]
    assert damaged.read_bytes() == b"no database" * 1000
    assert "past" in memguard(capsys, "estimate", "--episodes", str(tmp_path), "--", "true")[1]


def test_secrets_of_a_command_are_struck_out(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Neither the words nor the document have a password in them."""
    words = ("--episodes", str(tmp_path), "--", "true", "--password", "hunter2xyz")
    assert "hunter2xyz" not in memguard(capsys, "estimate", *words)[1]
    assert "hunter2xyz" not in memguard(capsys, "estimate", "--json", *words)[1]
