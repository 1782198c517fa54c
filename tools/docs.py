"""Write the generated pages, or with ``--check`` tell which of them are out of date.

Run from the project's root: ``python -m tools.docs [--check]``; ``make docs`` does it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tools import events_page, requirements_page, settings_page

__all__ = ["PAGES", "main", "stale_pages"]

ROOT = Path(__file__).resolve().parent.parent
PAGES: dict[str, Callable[[], str]] = {
    "docs/events.md": events_page.render,
    "docs/requirements.md": requirements_page.render,
    "docs/settings.md": settings_page.render,
}
# Nobody should correct by hand what the next run overwrites.
NOTICE = "<!-- Made by `make docs`; change what it is made from, not this page. -->\n\n"


def stale_pages() -> dict[str, str]:
    """Return path and right content of every page that is missing or differs."""
    wanted = {name: NOTICE + render() for name, render in PAGES.items()}
    return {name: text for name, text in wanted.items() if _content(ROOT / name) != text}


def _content(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def main(arguments: list[str]) -> int:
    """Write what is stale, or only name it; return the exit status."""
    stale = stale_pages()
    if arguments == ["--check"]:
        for name in stale:
            sys.stderr.write(f"{name} is out of date: run `make docs`\n")
        return 1 if stale else 0
    for name, text in stale.items():
        (ROOT / name).write_text(text)
        sys.stdout.write(f"wrote {name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
