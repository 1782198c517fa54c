"""The page of settings names the flags that there are, with the commands that have them, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from memguard.cli.main import COMMANDS, cli
from memguard.config import SETTINGS, Setting


def section_of(page: str, setting: Setting) -> str:
    return page.partition(f"## `{setting.name}`\n")[2].partition("\n## ")[0]


def flags_in_help(command: str) -> set[str]:
    told = CliRunner().invoke(cli, [command, "--help"], catch_exceptions=False).stdout
    return set(re.findall(r"^ +(?:-\w, )?(--[\w-]+)", told, re.MULTILINE))


@pytest.fixture(scope="module")
def helps() -> dict[str, set[str]]:
    """The flags that each command's help shows."""
    return {name: flags_in_help(name) for name in COMMANDS}


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_a_flag_on_the_page_is_a_flag_of_the_command(
    setting: Setting, helps: dict[str, set[str]], project_root: Path
) -> None:
    """Each flag is named with exactly the commands whose help shows it; where none does, the page says so."""
    section = section_of((project_root / "docs" / "settings.md").read_text(), setting)
    named = re.search(r"Flag: `(--[\w-]+)` of ([^.]*)\.", section)
    commands = re.findall(r"`memguard (\w+)`", named[2]) if named else []
    assert commands == [name for name, flags in helps.items() if setting.flag in flags]
    assert named[1] == setting.flag if named else "No command has a flag for it." in section


def test_settings_of_a_job_can_be_given_with_the_job(helps: dict[str, set[str]]) -> None:
    """What changes from job to job is a flag of both commands that run jobs."""
    wanted = {"--memory", "--timeout", "--grace", "--fence", "--redact", "--log-level", "--log-format"}
    assert wanted <= helps["run"]
    assert wanted <= helps["autofeat"]
