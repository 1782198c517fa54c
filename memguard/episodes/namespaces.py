"""What the store knows of each namespace, as a row that is read and written inside the transaction that changes it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Final

import apsw

from memguard.episodes.schema import PLACES
from memguard.errors import EpisodeInvalid

__all__ = ["Namespace", "all_namespaces", "find_namespace", "namespace_for", "save"]


@dataclass(slots=True)
class Namespace:
    """A namespace's row.

    Attributes:
        number: tells it in row numbers and names of files.
        name: tells it to people.
        dimension: of its vectors, fixed by the first; ``None`` before.
        embedder: what makes its vectors; ``""`` if nothing was said.
        budget_bytes: the most that texts, metadata and vectors may take; ``None``: no bound.
        last_place: the last place that was given out.
        filed_place: up to here vectors lie in the files, beyond in the table `unfiled`.
        indexed_place: up to here texts are in the text index.
        live: episodes that can be had.
        vectors: versions that have one.
        text_bytes: of all texts.
        used_bytes: of all texts, metadata and vectors.
        unfiled: vectors in the table `unfiled`.
    """

    number: int
    name: str
    dimension: int | None = None
    embedder: str = ""
    budget_bytes: int | None = None
    last_place: int = 0
    filed_place: int = 0
    indexed_place: int = 0
    live: int = 0
    vectors: int = 0
    text_bytes: int = 0
    used_bytes: int = 0
    unfiled: int = 0

    def row(self, place: int) -> int:
        """Return the number of the row of a place."""
        return self.number * PLACES + place

    @property
    def rows(self) -> tuple[int, int]:
        """The first and the last number that its rows can have."""
        return self.row(0), self.row(PLACES - 1)


_COLUMNS: Final = tuple(field.name for field in fields(Namespace))
_values: Final = attrgetter(*_COLUMNS)  # `dataclasses.astuple` copies each deeply
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM namespace"
_INSERT: Final = f"INSERT INTO namespace({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
# But for its name, which never changes: the page of the index of names would be written again with each add.
_CHANGING: Final = _COLUMNS[2:]
_UPDATE: Final = f"UPDATE namespace SET {', '.join(f'{name} = ?' for name in _CHANGING)} WHERE number = ?"


def all_namespaces(connection: apsw.Connection) -> list[Namespace]:
    """Return all, by name."""
    return [Namespace(*row) for row in connection.execute(f"{_SELECT} ORDER BY name")]


def find_namespace(connection: apsw.Connection, name: str) -> Namespace | None:
    """Return one by its name, ``None`` if nothing was ever added to it."""
    row = connection.execute(f"{_SELECT} WHERE name = ?", (name,)).fetchone()
    return None if row is None else Namespace(*row)


def numbered(connection: apsw.Connection, number: int) -> Namespace:
    """Return one by its number."""
    return Namespace(*next(connection.execute(f"{_SELECT} WHERE number = ?", (number,))))


def namespace_for(connection: apsw.Connection, name: str) -> Namespace:
    """Return one by its name, made if it is not there; inside a transaction that writes."""
    found = find_namespace(connection, name)
    if found is None:
        highest = next(connection.execute("SELECT coalesce(max(number), 0) FROM namespace"))[0]
        found = Namespace(highest + 1, name)
        connection.execute(_INSERT, _values(found))
    return found


def save(connection: apsw.Connection, namespace: Namespace) -> None:
    """Write a namespace's row back."""
    number, _, *rest = _values(namespace)
    connection.execute(_UPDATE, (*rest, number))


def check_dimension(namespace: Namespace, dimension: int, what: str = "the vector") -> None:
    """Refuse a vector of another dimension than a namespace's.

    Raises:
        EpisodeInvalid: it says both.
    """
    if namespace.dimension not in (None, dimension):
        raise EpisodeInvalid(
            f"{what} has dimension {dimension}, the vectors of namespace {namespace.name!r} have "
            f"{namespace.dimension}; use another namespace for another model"
        )


def check_embedder(namespace: Namespace, embedder: str) -> None:
    """Refuse vectors of another embedder than made a namespace's.

    Args:
        namespace: where they go, or are searched for.
        embedder: what made them; ``""`` if nobody said.

    Raises:
        EpisodeInvalid: it says both.
    """
    if embedder and namespace.vectors and namespace.embedder != embedder:
        raise EpisodeInvalid(
            f"the vectors of namespace {namespace.name!r} are of {namespace.embedder or 'an unnamed embedder'}, not of "
            f"{embedder}; use another namespace"
        )
