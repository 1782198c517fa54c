"""Leaks rows of a database in memory, which is SQLite's and not Python's."""

import sqlite3

TRUTH = {"leaks": True, "kind": "native", "bytes": 9_000, "names": []}
DATABASE = sqlite3.connect(":memory:")


def setup() -> None:
    """Make the table."""
    DATABASE.execute("create table events (number integer, body blob)")


def iteration(number: int) -> None:
    """Store an event for ever."""
    DATABASE.execute("insert into events values (?, ?)", (number, bytes([number % 251]) * 8_000))
