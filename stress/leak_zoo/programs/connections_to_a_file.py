"""Leaks connections to a database in a file: two descriptors and a cache of pages each."""

import os
import sqlite3
import tempfile
from typing import Any

TRUTH = {"leaks": True, "kind": ["fd", "native"], "bytes": 0, "names": ["OPEN", "Connection"]}

OPEN: list[Any] = []
FOLDER = tempfile.TemporaryDirectory(prefix="leak-zoo-")
PATH = os.path.join(FOLDER.name, "answers.db")


def setup() -> None:
    """Make the table."""
    with sqlite3.connect(PATH) as made:
        made.execute("create table answers (number integer)")
    made.close()


def iteration(number: int) -> None:
    """Ask, and keep the connection."""
    connection = sqlite3.connect(PATH)
    connection.execute("select count(*) from answers").fetchone()
    OPEN.append(connection)


def teardown() -> None:
    """Close all."""
    for each in OPEN:
        each.close()
    FOLDER.cleanup()
