"""Flags of settings win over everything else, and the log is set up as the settings say."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from memguard.cli.main import cli
from memguard.cli.setting_flags import JOB_SETTINGS, read_settings, setting_flags
from memguard.config import LogLevel
from memguard.errors import ConfigError
from memguard.events import Event
from memguard.log import log_event


@click.command("probe")
@setting_flags(*JOB_SETTINGS)
def probe() -> None:
    """Show what a command gets, and log one event of each kind."""
    settings = read_settings()
    names = ("grace", "fence", "log_level")
    click.echo(json.dumps({name: settings.origins[name] for name in names}))
    log_event(Event("memguard.job_started", job_id="1"))
    log_event(Event("memguard.guard_degraded", job_id="1"))
    logging.getLogger("memguard").error("a fault")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_flag_wins(place: Path) -> None:
    """A flag that is given beats variable and file; one that is not given hides nothing."""
    (place / "memguard.toml").write_text('grace = "9s"\nfence = "rlimit"\n')
    done = CliRunner().invoke(
        probe, ["--fence", "NONE"], env={"MEMGUARD_FENCE": "cgroup"}, catch_exceptions=False
    )
    assert json.loads(done.stdout) == {
        "grace": "memguard.toml",
        "fence": "flag --fence",
        "log_level": "default",
    }


def test_a_bad_flag_is_told_as_a_bad_setting() -> None:
    """What the table of settings refuses is refused of a flag too, by its name; a choice is listed."""
    done = CliRunner().invoke(probe, ["--grace", "soon"])
    assert isinstance(done.exception, ConfigError)
    assert "--grace: 'soon' is not a duration" in str(done.exception)
    assert "'auto', 'cgroup'" in CliRunner().invoke(probe, ["--fence", "cage"]).stderr


@pytest.mark.parametrize(
    ("words", "environment", "told"),
    [
        ([], {}, ["ERROR"]),
        ([], {"MEMGUARD_LOG_LEVEL": "info"}, ["INFO", "WARNING", "ERROR"]),
        (["--log-level", "info"], {"MEMGUARD_LOG_LEVEL": "critical"}, ["INFO", "WARNING", "ERROR"]),
        (["--log-format", "text"], {}, ["WARNING", "ERROR"]),
        (["--log-level", "critical"], {}, []),
    ],
)
def test_the_log_is_shown_to_who_asked_for_it(
    words: list[str], environment: dict[str, str], told: list[str]
) -> None:
    """From the level that was asked for; who asked for nothing gets errors alone, as warnings are said in words."""
    done = CliRunner().invoke(probe, words, env=environment, catch_exceptions=False)
    assert [line.split()[1] for line in done.stderr.splitlines()] == told


@pytest.mark.parametrize("command", ["config", "doctor", "status"])
def test_every_command_that_reads_settings_sets_up_the_log(command: str) -> None:
    """The level asked for is that of memguard's logger after each command, and no other logger's."""
    root = logging.root.level
    CliRunner().invoke(cli, [command], env={"MEMGUARD_LOG_LEVEL": "critical"}, catch_exceptions=False)
    assert logging.getLogger("memguard").level == getattr(logging, LogLevel.CRITICAL.upper())
    assert logging.root.level == root
