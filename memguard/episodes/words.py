"""The text index: filled behind the writes up to a mark, searched together with what lies beyond it.

Comes in: rows, inside a transaction that writes; a query. Goes out: rows with scores. It is derived from the rows and
can be built again. What is not in it yet is indexed for the length of one query, so a search sees every add that was
acknowledged before it, with the score that it will have once it is in the index.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Self
from weakref import WeakSet

import apsw

from memguard.episodes.filters import Condition
from memguard.episodes.folding import any_of, fold, terms_of
from memguard.episodes.namespaces import Namespace, save

__all__ = ["index_some", "search_words"]

# Up to so many rows with a word all are ranked. BM25 first counts every row that has it, which for a word of a million
# texts takes 50 ms and more: of a commoner one that number is guessed, and the newest few are ranked.
_MOST_RANKED: Final = 20_000
_FEW_RANKED: Final = 4_096
# Of BM25, as FTS5 has them, and the least that a word counts, be it in half of all texts or more.
_K1: Final = 1.2
_B: Final = 0.75
_LEAST: Final = 1e-6
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
    with _Search(connection, namespace, condition, terms) as search:
        found = search.best(" ".join(terms), top_k)
        if len(found) >= top_k or len(terms) == 1:
            return found
        known = {row for row, _ in found}
        more = search.best(any_of(terms), top_k + len(found))
    return (found + [each for each in more if each[0] not in known])[:top_k]


class _Figures(NamedTuple):
    """What BM25 asks of all texts.

    Attributes:
        rows: how many there are.
        tokens: how many words they have together.
        having: in how many each term is.
    """

    rows: int
    tokens: int
    having: tuple[int, ...]

    def plus(self, other: _Figures) -> _Figures:
        having = tuple(one + another for one, another in zip(self.having, other.having, strict=True))
        return _Figures(self.rows + other.rows, self.tokens + other.tokens, having)

    def score(self, size: int, counts: Sequence[int]) -> float:
        """Return BM25 as FTS5 counts it (Robertson and others, TREC-3, 1994, with its k1 and b), above 0."""
        damp = _K1 * (1 - _B + _B * size * self.rows / max(1, self.tokens))
        return sum(
            self._weight(having) * count * (_K1 + 1) / (count + damp)
            for having, count in zip(self.having, counts, strict=True)
        )

    def _weight(self, having: int) -> float:
        return max(_LEAST, math.log((self.rows - having + 0.5) / (having + 0.5)))


class _Search:
    """One search: the index, and beside it, where it lags behind, a passing one of what it lacks."""

    def __init__(
        self, connection: apsw.Connection, namespace: Namespace, condition: Condition, terms: list[str]
    ) -> None:
        self._connection, self._namespace = connection, namespace
        self._condition, self._terms = condition, terms
        self._passing: apsw.Connection | None = None
        self._known: _Figures | None = None
        self._newest: list[Any] | None = None

    def __enter__(self) -> Self:
        first = self._namespace.row(self._namespace.indexed_place)
        last = self._namespace.row(self._namespace.last_place)
        if last > first:
            self._passing = _passing_index(self._connection, first, last)
            _teach(self._passing)
        _teach(self._connection)
        return self

    def __exit__(self, *_: object) -> None:
        if self._passing is not None:
            self._passing.close()

    def best(self, match: str, top_k: int) -> list[_Scored]:
        """Return the rows that match, best first, the newer of two that are alike."""
        indexed = self._indexed(match)
        if self._passing is None:
            return heapq.nlargest(top_k, indexed, key=_newest_of_best)
        beyond = self._scored(_rows_with(self._passing, match))
        return heapq.nlargest(top_k, [*indexed, *self._meeting(beyond, top_k)], key=_newest_of_best)

    @property
    def _figures(self) -> _Figures:
        if self._known is None:
            self._known = _figures(self._connection, self._terms, self._namespace, self._newest)
            if self._passing is not None:
                self._known = self._known.plus(_figures(self._passing, self._terms))
        return self._known

    def _scored(self, counted: Iterator[_Counted]) -> list[_Scored]:
        figures = self._figures
        return [(row, figures.score(size, counts)) for row, size, counts in counted]

    def _indexed(self, match: str) -> list[_Scored]:
        some = self._asked("words.rowid", match, _MOST_RANKED + 1)
        is_common = len(some) > _MOST_RANKED
        if len(self._terms) == 1 and not self._condition.sql:
            self._newest = (
                some  # asked for once: of a beginning of words SQLite joins all lists of rows each time
            )
        if self._passing is None and not is_common:
            return self._asked("words.rowid, -bm25(words)", match, _MOST_RANKED)
        found = self._counted(match, _FEW_RANKED if is_common else _MOST_RANKED)
        if is_common and match == any_of(self._terms):
            return list({**dict(self._scored(found)), **dict(self._with_rare())}.items())
        return self._scored(found)

    def _with_rare(self) -> list[_Scored]:
        """Return rows that have a rare one of the terms: common ones beside it would leave no room for old texts."""
        rare, left = list[str](), _MOST_RANKED
        for having, term in sorted(zip(self._figures.having, self._terms, strict=True)):
            left -= having
            if left < 0:
                break
            rare.append(term)
        if not rare:
            return []
        match = f"({any_of(rare)}) AND ({any_of(self._terms)})"
        counted = self._counted(match, _MOST_RANKED)
        return self._scored((row, size, counts[len(rare) :]) for row, size, counts in counted)

    def _counted(self, match: str, most: int) -> Iterator[_Counted]:
        return map(_counted, self._asked("words.rowid, memguard_counts(words)", match, most))

    def _asked(self, what: str, match: str, most: int) -> list[Any]:
        """Return what is asked of rows that match and meet the condition, the newest first."""
        joined = "JOIN episode ON row = words.rowid AND is_live" if self._condition.sql else ""
        asked = (
            f"SELECT {what} FROM words {joined} WHERE words MATCH ? AND words.rowid BETWEEN ? AND ?"
            f"{self._condition.conjunct} ORDER BY words.rowid DESC LIMIT {most}"
        )
        last = self._namespace.row(self._namespace.indexed_place)
        values = (match, self._namespace.row(0), last, *self._condition.values)
        return self._connection.execute(asked, values).fetchall()

    def _meeting(self, scored: list[_Scored], top_k: int) -> list[_Scored]:
        """Return the best that meet the condition, which are looked at from the best on."""
        ordered = sorted(scored, key=_newest_of_best, reverse=True)
        if not self._condition.sql:
            return ordered[:top_k]
        asked = f"SELECT 1 FROM episode WHERE row = ?{self._condition.conjunct}"
        found: list[_Scored] = []
        for each in ordered:
            if self._connection.execute(asked, (each[0], *self._condition.values)).fetchone():
                found.append(each)
                if len(found) == top_k:
                    break
        return found


def _newest_of_best(scored: _Scored) -> tuple[float, int]:
    return scored[1], scored[0]


def _passing_index(connection: apsw.Connection, after: int, last: int) -> apsw.Connection:
    """Return an index of what the index does not have, in memory, made as that one is."""
    passing = apsw.Connection(":memory:")
    try:
        made: str = next(connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'words'"))[0]
        passing.execute(made)
        _index(connection, passing, after, last)
    except BaseException:
        passing.close()
        raise
    return passing


# Rows with how many words they have, and how often each term.
_Counted = tuple[int, int, list[int]]
# FTS5 keeps every function that it is given until the connection ends, so each gets them once.
_taught: Final[WeakSet[apsw.Connection]] = WeakSet()


def _teach(connection: apsw.Connection) -> None:
    if connection not in _taught:
        connection.register_fts5_function("memguard_totals", _totals)
        connection.register_fts5_function("memguard_counts", _counts)
        _taught.add(connection)


def _totals(api: apsw.FTS5ExtensionApi, /, *_: Any) -> str:
    return f"{api.row_count} {api.column_total_size(0)}"


def _counts(api: apsw.FTS5ExtensionApi, /, *_: Any) -> str:
    counts = (len(api.phrase_locations(phrase)[0]) for phrase in range(api.phrase_count))
    return f"{api.column_size(0)} {' '.join(map(str, counts))}"


def _figures(
    connection: apsw.Connection,
    terms: list[str],
    namespace: Namespace | None = None,
    newest: list[Any] | None = None,
) -> _Figures:
    """Return the figures of an index.

    Args:
        connection: to it.
        terms: whose rows are counted.
        namespace: where numbers of rows tell how many lie between two.
        newest: rows of the namespace with the only term, one more than are ranked, if they are known.
    """
    told = connection.execute("SELECT memguard_totals(words) FROM words LIMIT 1").fetchone()
    if told is None:
        return _Figures(0, 0, (0,) * len(terms))
    rows, tokens = map(int, told[0].split())
    return _Figures(rows, tokens, tuple(_having(connection, term, rows, namespace, newest) for term in terms))


def _having(
    connection: apsw.Connection, term: str, rows: int, namespace: Namespace | None, newest: list[Any] | None
) -> int:
    """Return in how many rows a term is; of a common one the newest of the namespace tell it."""
    if namespace is not None:
        asked = "SELECT rowid FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ? ORDER BY rowid DESC LIMIT ?"
        last = namespace.row(namespace.indexed_place)
        values = (term, namespace.row(0), last, _MOST_RANKED + 1)
        found: Any = connection.execute(asked, values).fetchall() if newest is None else newest
        if len(found) > _MOST_RANKED:
            return int(min(rows, rows * len(found) // (last - found[-1][0] + 1)))
    return int(next(connection.execute("SELECT count(*) FROM words WHERE words MATCH ?", (term,)))[0])


def _rows_with(connection: apsw.Connection, match: str) -> Iterator[_Counted]:
    asked = "SELECT rowid, memguard_counts(words) FROM words WHERE words MATCH ? ORDER BY rowid DESC LIMIT ?"
    return map(_counted, connection.execute(asked, (match, _MOST_RANKED)))


def _counted(told: Any) -> _Counted:
    size, *counts = map(int, told[1].split())
    return told[0], size, counts
