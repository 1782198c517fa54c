"""A namespace that keeps its newest episodes only: older rows go, with their words and their history.

Comes in: a transaction that writes, how many places back rows are kept. Goes out: how many rows went. What jobs leave
behind comes without end and is of use while it is new; all else in a store stays until somebody deletes it. Rows with
a vector stay: its place in the file would be lost to the search that reads it now.
"""

from __future__ import annotations

from typing import Any

import apsw

from memguard.episodes.namespaces import find_namespace, save

__all__ = ["forget_old"]


def forget_old(connection: apsw.Connection, name: str, keep: int, most: int) -> int:
    """Take the oldest rows of a namespace out, as if they had never been; returns how many.

    Args:
        connection: inside a transaction that writes.
        name: of the namespace.
        keep: so many of the newest stay.
        most: no more than so many go at once, so that nobody waits for long.
    """
    space = find_namespace(connection, name)
    if space is None or space.last_place <= keep:
        return 0
    reach = space.row(0), space.row(space.last_place - keep), most
    found: Any = connection.execute(
        "SELECT row, is_live, op, length(CAST(text AS BLOB)), length(CAST(metadata AS BLOB)) FROM episode "
        "WHERE row > ? AND row <= ? AND NOT has_vector ORDER BY row LIMIT ?",
        reach,
    ).fetchall()
    indexed = space.row(space.indexed_place)
    words = [(row,) for row, is_live, _, text, _ in found if is_live and text and row <= indexed]
    connection.executemany("DELETE FROM words WHERE rowid = ?", words)
    connection.executemany("DELETE FROM episode WHERE row = ?", [(row,) for row, *_ in found])
    space.live -= sum(is_live for _, is_live, *_ in found)
    # What was deleted or purged is counted no more already.
    sizes = [(text, metadata) for _, _, op, text, metadata in found if op < 3]
    space.text_bytes -= sum(text for text, _ in sizes)
    space.used_bytes -= sum(text + metadata for text, metadata in sizes)
    save(connection, space)
    return len(found)
