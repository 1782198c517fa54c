"""Tables of the commands that read: drawn on a terminal, aligned plain text everywhere else."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence

from memguard.cli.exits import show

__all__ = ["plain_table", "print_table"]


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> None:
    """Print rows to stdout; on a terminal as a table that fits its width, which honours NO_COLOR.

    Args:
        headers: the columns' names.
        rows: texts, as many a row as there are headers.
        right: numbers of the columns that are aligned to the right.
    """
    texts = [tuple(row) for row in rows]
    if sys.stdout.isatty():
        _print_drawn(headers, texts, frozenset(right))
    else:
        show(plain_table(headers, texts, frozenset(right)))


def plain_table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int]) -> str:
    """Return rows as lines with aligned columns, without blanks at their ends."""
    lines = [tuple(headers), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    return "\n".join(
        "  ".join(_padded(text, widths[column], column in right) for column, text in enumerate(line)).rstrip()
        for line in lines
    )


def _padded(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)


def _print_drawn(headers: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int]) -> None:
    # rich costs 50 ms and more to import, which output to a file or a pipe does not need.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, header in enumerate(headers):
        table.add_column(header, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        # As Text, so that a bracket in a path is a bracket and not a style.
        table.add_row(*(Text(text) for text in row))
    Console(width=max(40, shutil.get_terminal_size().columns)).print(table)
