"""The store's tables, and how those of former versions become these.

A version of an episode is a row that is written once: the history is the table itself. A row's number is its
namespace's number times 2**40 plus its place in it, counted from 1: rows of a namespace lie together, and the place
tells where its vector lies in the namespace's file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import apsw

from memguard.errors import EpisodeStoreError

__all__ = ["APPLICATION_ID", "PLACES", "VERSION", "migrate", "rebuild_words", "version_of"]

# "memg": tells our files from others'.
APPLICATION_ID: Final = 0x6D656D67
VERSION: Final = 2
PLACES: Final = 1 << 40

# op: 1 added, 2 updated, 3 deleted, 4 purged. is_live: whether it is the version that a reader gets.
# Short columns first: a filter reads no page of a long text.
_TABLES: Final = """
CREATE TABLE namespace(
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    dimension INTEGER,
    embedder TEXT NOT NULL DEFAULT '',
    budget_bytes INTEGER,
    last_place INTEGER NOT NULL DEFAULT 0,
    filed_place INTEGER NOT NULL DEFAULT 0,
    indexed_place INTEGER NOT NULL DEFAULT 0,
    live INTEGER NOT NULL DEFAULT 0,
    vectors INTEGER NOT NULL DEFAULT 0,
    text_bytes INTEGER NOT NULL DEFAULT 0,
    used_bytes INTEGER NOT NULL DEFAULT 0,
    unfiled INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE episode(
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    op INTEGER NOT NULL,
    is_live INTEGER NOT NULL,
    has_vector INTEGER NOT NULL,
    happened_us INTEGER NOT NULL,
    noted_us INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    kind TEXT NOT NULL,
    metadata TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE UNIQUE INDEX episode_id ON episode(id, version);
CREATE TABLE unfiled(row INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE blank(row INTEGER PRIMARY KEY);
CREATE TABLE mark(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
# Texts are folded before they come here (`folding.py`), so the tokenizer has only to part at what is no letter, digit
# or mark. Contentless: the texts are in the table already.
_WORDS: Final = """
CREATE VIRTUAL TABLE words USING fts5(
    folded, content='', contentless_delete=1, tokenize="unicode61 remove_diacritics 2 categories 'L* N* Co M*'"
);
"""
# By what past jobs of a kind are found; of other episodes it has none. What was deleted or purged has no metadata.
_JOB_KINDS: Final = """
CREATE INDEX job_kind ON episode(json_extract(metadata, '$.sizing.kind')) WHERE kind = 'job' AND op < 3;
"""

# From each former version to the next, in one transaction each.
_MIGRATIONS: Final[dict[int, Callable[[apsw.Connection], object]]] = {
    1: lambda connection: connection.execute(_JOB_KINDS),
}


def create(connection: apsw.Connection) -> None:
    """Make the tables, inside a transaction."""
    connection.execute(_TABLES)
    connection.execute(_WORDS)
    connection.execute(_JOB_KINDS)
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", VERSION)


def version_of(connection: apsw.Connection, path: str) -> int:
    """Return of which version the tables are; 0 where there are none.

    Raises:
        EpisodeStoreError: if they are of a newer one than this, or none of ours.
    """
    application, found = connection.pragma("application_id"), int(connection.pragma("user_version"))
    if application == 0 and found == 0 and not connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
        return 0
    if application != APPLICATION_ID:
        raise EpisodeStoreError(f"{path} is a database, and none of episodes; name another folder", path=path)
    if found > VERSION:
        raise EpisodeStoreError(
            f"{path} was written by a newer memguard (its tables have version {found}, this one knows {VERSION}); "
            "update memguard; nothing was touched",
            path=path,
        )
    return found


def migrate(connection: apsw.Connection, path: str) -> None:
    """Bring the tables to this version, inside a transaction.

    Raises:
        EpisodeStoreError: as `version_of`.
    """
    found = version_of(connection, path)
    if not found:
        create(connection)
        return
    for version in range(found, VERSION):
        _MIGRATIONS[version](connection)
        connection.pragma("user_version", version + 1)


def rebuild_words(connection: apsw.Connection) -> None:
    """Empty the text index, which is then filled from the rows again."""
    connection.execute("DROP TABLE IF EXISTS words")
    connection.execute(_WORDS)
    connection.execute("UPDATE namespace SET indexed_place = 0")
