"""The runbooks are whole: a page for each death, headings, and nothing named that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from memguard.cli.main import cli
from memguard.config import CONFIG_VARIABLE, SETTINGS
from memguard.story import FAULT_RUNBOOKS, RUNBOOKS

FOLDER = Path(__file__).resolve().parents[2] / "runbooks"
PAGES = sorted(path.stem for path in FOLDER.glob("*.md") if path.stem != "README")
# Pages that no death names: people come to them by themselves.
NAMED_BY_NOBODY = {"JobWaiting", "LeakSuspected"}
# Named by a line that says that a job is made to wait, or what is wrong with a store of episodes.
NAMED_BY_A_LINE = {
    "EpisodesDamaged",
    "EpisodesIndexStalled",
    "EpisodesOverBudget",
    "ForecastMissed",
    "JobThrottled",
}
HEADINGS = ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation"]
LAST_HEADINGS = ["### When not to act", "### Going back", "### Escalating"]
LONGEST_PAGE_LINES = 130


def test_every_death_has_a_page_and_every_page_a_death() -> None:
    """What a message names exists, the page names the outcome, and no page is left over."""
    named = {*RUNBOOKS.values(), *FAULT_RUNBOOKS.values(), *NAMED_BY_A_LINE}
    assert named | NAMED_BY_NOBODY == set(PAGES)
    for beginning, page in FAULT_RUNBOOKS.items():
        assert page == "LedgerDamaged" or beginning in (FOLDER / f"{page}.md").read_text()
    for outcome, page in RUNBOOKS.items():
        assert outcome.value.replace("_", " ") in (FOLDER / f"{page}.md").read_text()
    index = (FOLDER / "README.md").read_text()
    assert all(f"]({page}.md)" in index for page in PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_its_headings_and_is_one_page(page: str) -> None:
    """The title is the name, the headings are there in order, and nothing is longer than a page."""
    lines = (FOLDER / f"{page}.md").read_text().splitlines()
    assert lines[0] == f"# {page}"
    assert [line for line in lines if line.startswith("## ")] == HEADINGS
    assert [line for line in lines if line.startswith("### ")] == LAST_HEADINGS
    assert len(lines) <= LONGEST_PAGE_LINES


def commands_in(text: str) -> Iterator[list[str]]:
    """Yield the words of each call of memguard, in blocks and in running text, up to what it wraps."""
    code = [*re.findall(r"```bash\n(.*?)```", text, re.DOTALL), *re.findall(r"`([^`\n]+)`", text)]
    for line in "\n".join(code).splitlines():
        for call in re.findall(r"(?<!from )\bmemguard ([a-z]+(?: [^|;#]*)?)", line):
            yield call.split(" -- ")[0].split()


@pytest.mark.parametrize("page", [*PAGES, "README"])
def test_every_flag_and_setting_exists(page: str) -> None:
    """No page names a command, a flag or a variable that memguard does not have."""
    text = (FOLDER / f"{page}.md").read_text()
    context = click.Context(cli)
    known = {name: flags_of(cli.get_command(context, name)) for name in cli.list_commands(context)}
    for name, *words in commands_in(text):
        assert name in known, f"memguard {name} does not exist"
        assert {word for word in words if word.startswith("-")} <= known[name], f"in memguard {name} {words}"
    alone = {word.split()[0] for word in re.findall(r"`(-[^`]+)`", text)}
    assert alone <= set().union(*known.values())
    variables = {setting.environment for setting in SETTINGS} | {CONFIG_VARIABLE}
    assert set(re.findall(r"\bMEMGUARD_[A-Z_]+", text)) <= variables


def flags_of(command: click.Command | None) -> set[str]:
    assert command is not None
    own = {flag for parameter in command.params for flag in parameter.opts if flag.startswith("-")}
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    return own.union(*map(flags_of, inner))


@pytest.mark.parametrize("page", [*PAGES, "README"])
def test_no_link_is_dead(page: str) -> None:
    """Each link leads to a file of the project."""
    text = (FOLDER / f"{page}.md").read_text()
    targets = re.findall(r"\]\(([^)#]+)", text)
    assert [target for target in targets if not (FOLDER / target).is_file()] == []
    assert [
        page for page in re.findall(r"`(\w+/\w+\.py)`", text) if not (FOLDER.parent / page).is_file()
    ] == []
