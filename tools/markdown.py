"""Small pieces of Markdown that the pages share."""

from __future__ import annotations

__all__ = ["table_row"]


def table_row(*cells: str) -> str:
    """Return one line of a table, with bars inside the cells escaped."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
