"""The text index: filled behind the writes up to a mark, searched together with what lies beyond it.

Comes in: rows, inside a transaction that writes; a query. Goes out: rows with scores. It is derived from the rows and
can be built again. What is not in it yet is indexed for the length of one query, so a search sees every add that was
acknowledged before it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any, Final

import apsw

from memguard.episodes.filters import Condition
from memguard.episodes.folding import any_of, fold, terms_of
from memguard.episodes.namespaces import Namespace, save

__all__ = ["index_some", "search_words"]

# Rows that are ranked at the most, the newest first: BM25 of a word that a fifth of a million texts have would take
# a tenth of a second.
_MOST_RANKED: Final = 20_000
# What is read of the rows at once while they are indexed.
_TEXT_AT_ONCE: Final = 4 << 20

_Scored = tuple[int, float]


def index_some(connection: apsw.Connection, namespace: Namespace, most: int) -> int:
    """Take the next texts into the index, inside a transaction that writes; return how many rows are still without."""
    first = namespace.row(namespace.indexed_place)
    last = min(namespace.row(namespace.last_place), first + most)
    if last > first:
        _index(connection, connection, first, last)
        namespace.indexed_place += last - first
        save(connection, namespace)
    return namespace.last_place - namespace.indexed_place


def _index(source: apsw.Connection, target: apsw.Connection, after: int, last: int) -> None:
    insert = "INSERT INTO words(rowid, folded) VALUES (?, ?)"
    for batch in _batches(source, after, last):
        target.executemany(insert, batch)


def _batches(connection: apsw.Connection, after: int, last: int) -> Iterator[list[tuple[int, str]]]:
    asked = (
        "SELECT row, CAST(text AS BLOB) FROM episode WHERE row > ? AND row <= ? AND is_live AND text != ''"
    )
    batch, size = [], 0
    rows: Any = connection.execute(asked, (after, last))
    for row, text in rows:
        batch.append((row, fold(text.decode(errors="replace"))))
        size += len(text)
        if size >= _TEXT_AT_ONCE:
            yield batch
            batch, size = [], 0
    yield batch


def search_words(
    connection: apsw.Connection, namespace: Namespace, query: str, top_k: int, condition: Condition
) -> list[_Scored]:
    """Return the rows that answer a query best, with scores above 0; those with all of its terms come first."""
    terms = terms_of(query)
    if not terms:
        return []
    found = _with(connection, namespace, " ".join(terms), top_k, condition)
    if len(found) >= top_k or len(terms) == 1:
        return found
    known = {row for row, _ in found}
    more = _with(connection, namespace, any_of(terms), top_k + len(found), condition)
    return (found + [each for each in more if each[0] not in known])[:top_k]


def _with(
    connection: apsw.Connection, namespace: Namespace, match: str, top_k: int, condition: Condition
) -> list[_Scored]:
    indexed = _indexed(connection, namespace, match, condition)
    beyond = _beyond(connection, namespace, match, condition)
    return heapq.nlargest(top_k, [*indexed, *beyond], key=lambda each: (each[1], each[0]))


def _indexed(
    connection: apsw.Connection, namespace: Namespace, match: str, condition: Condition
) -> list[_Scored]:
    joined = "JOIN episode ON row = words.rowid AND is_live" if condition.sql else ""
    asked = (
        f"SELECT words.rowid, -bm25(words) FROM words {joined} WHERE words MATCH ? "
        f"AND words.rowid BETWEEN ? AND ?{condition.conjunct} ORDER BY words.rowid DESC LIMIT {_MOST_RANKED}"
    )
    last = namespace.row(namespace.indexed_place)
    found: Any = connection.execute(asked, (match, namespace.row(0), last, *condition.values)).fetchall()
    return list(found)


def _beyond(
    connection: apsw.Connection, namespace: Namespace, match: str, condition: Condition
) -> list[_Scored]:
    """Search what the index does not have, in an index that lasts for this query."""
    first, last = namespace.row(namespace.indexed_place), namespace.row(namespace.last_place)
    if last == first:
        return []
    passing = apsw.Connection(":memory:")
    try:
        passing.execute(_words_table(connection))
        _index(connection, passing, first, last)
        asked = "SELECT rowid, -bm25(words) FROM words WHERE words MATCH ? ORDER BY rowid DESC"
        scored: Any = passing.execute(asked, (match,)).fetchall()
    finally:
        passing.close()
    return _meeting(connection, scored[:_MOST_RANKED], condition)


def _words_table(connection: apsw.Connection) -> str:
    """Return how the index was made, so that a passing one parts texts in the same way."""
    made: str = next(connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'words'"))[0]
    return made


def _meeting(connection: apsw.Connection, scored: list[_Scored], condition: Condition) -> list[_Scored]:
    if not condition.sql:
        return scored
    asked = f"SELECT 1 FROM episode WHERE row = ?{condition.conjunct}"
    return [each for each in scored if connection.execute(asked, (each[0], *condition.values)).fetchone()]
