"""``memguard runbook``: the pages for the person on call, also where nothing but the package is installed."""

from __future__ import annotations

from pathlib import Path

import click

import memguard
from memguard.cli.exits import show
from memguard.errors import DataError

__all__ = ["RUNBOOK_FOLDERS", "runbook_command"]

_PACKAGE = Path(memguard.__file__).parent
# In a wheel they lie in the package; in a checkout, beside it.
RUNBOOK_FOLDERS = (_PACKAGE / "runbooks", _PACKAGE.parent / "runbooks")
_INDEX = "README"


@click.command("runbook")
@click.argument("name", default=_INDEX)
def runbook_command(*, name: str) -> None:
    """Print the runbook NAME, as the last line of a death names it; without NAME, the list of them.

    The page is Markdown: what the death means, what it costs, how to find the cause, what to do.
    """
    pages = _pages()
    if name not in pages:
        names = ", ".join(sorted(pages.keys() - {_INDEX}))
        raise DataError("there is no runbook of that name", subject=name, remedy=f"the runbooks are {names}")
    show(pages[name].read_text(encoding="utf-8").rstrip("\n"))


def _pages() -> dict[str, Path]:
    folder = next((each for each in RUNBOOK_FOLDERS if each.is_dir()), RUNBOOK_FOLDERS[0])
    return {path.stem: path for path in folder.glob("*.md")}
