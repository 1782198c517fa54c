"""The store's database: opened, shared out among threads, never across a fork.

Comes in: a folder. Goes out: connections for the length of a ``with`` block, a few for readers and one for the writer.
SQLite is the one bundled with apsw: the system's may be older than the repair of a rare corruption of its write-ahead
log under concurrent writers (3.51.3). What SQLite finds wrong becomes the store's own errors here.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from weakref import WeakSet

import apsw

from memguard.episodes.durability import SYNCHRONOUS, Durability
from memguard.episodes.locking import WriterLock
from memguard.episodes.place import Stamp, check_log, check_place, make_folder, size_of, stamp_of
from memguard.episodes.schema import VERSION, migrate, version_of
from memguard.episodes.syncing import sync_folder
from memguard.episodes.troubles import Translated
from memguard.errors import EpisodeStoreBusy, EpisodeStoreError

__all__ = ["Database"]


NAME: Final = "episodes.sqlite"
_PAGE_BYTES: Final = 8192
# Of each connection, in KiB as SQLite wants it: negative.
_WRITER_CACHE: Final = -8000
_READER_CACHE: Final = -2000
_MOST_READERS: Final = 4
# The write-ahead log is put into the database at 16 MiB; one that a long reader let grow is cut back to that.
_LOG_BYTES: Final = 16 << 20
# What a reader waits for the moments in which SQLite itself starts or recovers a log.
_BUSY_MS: Final = 10_000
# What a fork waits for reads and writes of other threads to end.
_FORK_WAIT_S: Final = 2.0


class Database:
    """The connections of this process.

    Args:
        folder: of the store; made, for this user alone, if it is not there.
        durability: what a commit waits for.
        read_only: never write, create or migrate.
        write_wait_s: how long to wait for another writer.

    Raises:
        EpisodeStoreError: if it cannot be had there.
    """

    def __init__(self, folder: Path, durability: Durability, *, read_only: bool, write_wait_s: float) -> None:
        self.folder, self.path = folder, folder / NAME
        self.read_only, self._durability = read_only, durability
        self._write_wait_s = write_wait_s
        self._start_over()
        if not read_only:
            make_folder(folder)
        elif not self.path.is_file():
            raise EpisodeStoreError(f"there is no store in {folder}", path=str(folder))
        check_place(folder)
        with Translated(self.path):
            self.lock = None if read_only else WriterLock(folder / "writer.lock", write_wait_s)
            try:
                self._first_look()
            except BaseException:
                self.close()
                raise
        _databases.add(self)

    def _start_over(self) -> None:
        self._idle: deque[tuple[apsw.Connection, Stamp | None]] = deque()
        self._room = threading.BoundedSemaphore(_MOST_READERS)
        self._writing: apsw.Connection | None = None
        self._is_closed = self._is_to_shrink = self._is_paused = False
        self._writer_bytes = 0

    def _first_look(self) -> None:
        """Make the tables what they are now, if they are not: a writer that is stopped keeps nobody from opening."""
        if self.read_only:
            check_log(self.path)
        if self.read_only or size_of(self.path):
            with self.reading() as connection:
                found = version_of(connection, str(self.path))
                if found == VERSION and (self.read_only or connection.pragma("journal_mode") == "wal"):
                    return
            if self.read_only:
                raise EpisodeStoreError(
                    f"the store in {self.folder} was written by an older memguard; open it once for writing, which "
                    "brings it up to date",
                    path=str(self.path),
                )
        with self._lock.held(), Translated(self.path):
            self._begin()
        with self.transaction() as connection:
            migrate(connection, str(self.path))
        sync_folder(self.folder)

    def _begin(self) -> None:
        """Say how the database is kept, which it then knows by itself; somebody else's is not touched."""
        connection = self._opened(_WRITER_CACHE)
        try:
            version_of(connection, str(self.path))
            connection.pragma("page_size", _PAGE_BYTES)
            connection.pragma("journal_mode", "wal")
        finally:
            connection.close()  # its cache has bounds for pages of another size

    @contextmanager
    def reading(self) -> Iterator[apsw.Connection]:
        """Give a connection whose reads all see the store as it was at the first of them.

        Raises:
            EpisodeStoreError: if the file cannot be read.
        """
        self._check_open()
        with self._room, Translated(self.path):
            stamp = self._stamp()
            connection = self._idle_one(stamp) or self._opened(_READER_CACHE, stamp)
            try:
                connection.execute("BEGIN")
                yield connection
                self._check_stamp(stamp)
            finally:
                self._put_back(connection, stamp)

    def _idle_one(self, stamp: Stamp | None) -> apsw.Connection | None:
        """Return a connection that nobody uses; one that took the file for fixed only while it is."""
        while True:
            try:
                connection, former = self._idle.popleft()
            except IndexError:
                return None
            if former == stamp:
                return connection
            connection.close()

    def _put_back(self, connection: apsw.Connection, stamp: Stamp | None) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        self._idle.append((connection, stamp))
        if self._is_closed:  # meanwhile, by another thread
            self._let_go_of_readers()

    def _stamp(self) -> Stamp | None:
        return stamp_of(self.path) if self.read_only else None

    def _check_stamp(self, stamp: Stamp | None) -> None:
        if stamp is not None and self._stamp() != stamp:
            raise EpisodeStoreBusy(
                f"{self.path} was written to while it was read, in a folder where this user cannot see it coming; "
                "read again",
                path=str(self.path),
            )

    @contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """Give the connection that writes, inside a transaction that is committed if the block ends well.

        Raises:
            EpisodeStoreBusy: if another writer took too long.
            EpisodeStoreError: if the file cannot be written; nothing was.
        """
        self._check_open()
        with self._lock.held():
            yield from self._committed()

    @contextmanager
    def transaction_if_free(self) -> Iterator[apsw.Connection | None]:
        """Give the same if nobody else writes now, else ``None``."""
        self._check_open()
        with self._lock.held_if_free() as free:
            if free:
                yield from self._committed()
            else:
                yield None

    def _committed(self) -> Iterator[apsw.Connection]:
        self._check_open()
        with Translated(self.path):
            if self._writing is None:
                self._writing = self._opened(_WRITER_CACHE)
            connection = self._writing
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
                self._shrink_where_asked()
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @property
    def _lock(self) -> WriterLock:
        if self.lock is None:
            raise EpisodeStoreError(f"{self.folder} was opened to be read only", path=str(self.folder))
        return self.lock

    def _opened(self, cache: int, stamp: Stamp | None = None) -> apsw.Connection:
        writes = not self.read_only
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE if writes else apsw.SQLITE_OPEN_READONLY
        if writes and not self.path.exists():
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = apsw.Connection(self._name(stamp), flags=flags | apsw.SQLITE_OPEN_URI)
        connection.set_busy_timeout(_BUSY_MS)
        if writes:
            connection.pragma("journal_size_limit", _LOG_BYTES)
            connection.pragma("synchronous", SYNCHRONOUS[self._durability])
            connection.pragma("wal_autocheckpoint", _LOG_BYTES // _PAGE_BYTES)
            connection.pragma("secure_delete", 1)  # what was purged is not left lying in the file
        connection.pragma("cache_size", cache)
        connection.pragma("temp_store", "file")
        return connection

    def _name(self, stamp: Stamp | None) -> str:
        quoted = str(self.path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        return f"file:{quoted}{'' if stamp is None else '?immutable=1'}"

    def _check_open(self) -> None:
        if str(self.path) in _tainted:
            raise EpisodeStoreError(
                f"the store in {self.folder} was being read or written when this process was forked, and cannot be "
                "used in it; fork between uses, or start the process anew (multiprocessing: spawn or forkserver)",
                path=str(self.folder),
            )
        if self._is_closed:
            raise EpisodeStoreError(f"the store in {self.folder} was closed", path=str(self.folder))

    @property
    def is_closed(self) -> bool:
        """Whether it is of no use any more."""
        return self._is_closed

    def _at_rest(self) -> Iterator[apsw.Connection]:
        """Give each connection that nobody uses; nobody does while it is given."""
        for _ in range(len(self._idle)):
            try:
                connection, stamp = self._idle.popleft()
            except IndexError:  # another thread was quicker
                return
            try:
                yield connection
            finally:
                self._put_back(connection, stamp)

    def give_back(self) -> None:
        """Give SQLite's page caches of this process back; of a connection that is in use when it is done."""
        for connection in self._at_rest():
            connection.pragma("shrink_memory")
        self._is_to_shrink = True
        if self.lock is not None and self.lock.pause(0):
            try:
                self._shrink_where_asked()
            finally:
                self.lock.resume()

    def cached_bytes(self) -> int:
        """Return what SQLite's page caches hold in this process, as far as no connection is in use."""
        held = sum(map(_cached_by, self._at_rest()))
        if self.lock is not None and self.lock.pause(0):
            try:
                self._writer_bytes = 0 if self._writing is None else _cached_by(self._writing)
            finally:
                self.lock.resume()
        return held + self._writer_bytes

    @property
    def most_cached_bytes(self) -> int:
        """What SQLite's page caches may hold."""
        writer = 0 if self.read_only else _WRITER_CACHE
        return -1024 * (writer + _MOST_READERS * _READER_CACHE)

    def _shrink_where_asked(self) -> None:
        if self._is_to_shrink and self._writing is not None:
            self._is_to_shrink = False
            self._writing.pragma("shrink_memory")

    def checkpoint(self) -> bool:
        """Put the log into the database and empty it; returns whether that could be done: no reader needed it."""
        with self._lock.held(), Translated(self.path):
            if self._writing is None:
                self._writing = self._opened(_WRITER_CACHE)
            self._writing.set_busy_timeout(0)  # a reader may need the log for a long time
            try:
                self._writing.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            except apsw.BusyError:
                return False
            finally:
                self._writing.set_busy_timeout(_BUSY_MS)
            return True

    def vacuum(self) -> None:
        """Write the database anew without its free pages; needs up to twice as much room again meanwhile."""
        with self._lock.held(), Translated(self.path):
            assert self._writing is not None
            self._writing.execute("VACUUM")
        self.checkpoint()

    def close(self) -> None:
        """Close all connections, those in use as soon as they are not any more; of no use afterwards."""
        self._is_closed = True
        lock = getattr(self, "lock", None)
        if lock is None:
            self._let_go()
        elif lock.pause(self._write_wait_s):  # another thread is writing, and is waited for
            self._let_go()
            lock.resume()
            lock.close()

    def _let_go(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.close()
        self._let_go_of_readers()

    def _let_go_of_readers(self) -> None:
        while self._idle:
            with contextlib.suppress(IndexError):  # another thread was quicker
                self._idle.popleft()[0].close()

    def pause(self) -> None:
        """Close all connections before a fork, and let nobody open one until it is over.

        SQLite keeps in memory which locks this process has on a file. A copy would believe that it has them, take none
        of its own, and what it commits could be lost.
        """
        until_s = time.monotonic() + _FORK_WAIT_S
        taken = 0
        while taken < _MOST_READERS and self._room.acquire(timeout=max(0.0, until_s - time.monotonic())):
            taken += 1
        self._is_paused = taken == _MOST_READERS and (
            self.lock is None or self.lock.pause(max(0.0, until_s - time.monotonic()))
        )
        if self._is_paused:
            self._let_go()
        else:
            self._give_room(taken)

    def resume(self) -> None:
        """Go on in the process that forked."""
        if self._is_paused:
            self._is_paused = False
            if self.lock is not None:
                self.lock.resume()
            self._give_room(_MOST_READERS)

    def _give_room(self, permits: int) -> None:
        for _ in range(permits):
            self._room.release()

    def begin_in_copy(self) -> None:
        """Go on in the copy, with connections of its own; not at all where the fork met it at work."""
        was_closed, was_paused = self._is_closed, self._is_paused
        inherited = [*(connection for connection, _ in self._idle), self._writing]
        self._start_over()
        self._is_closed = was_closed
        if not was_paused and not was_closed:
            _inherited.extend(inherited)
            _tainted.add(str(self.path))


def _cached_by(connection: apsw.Connection) -> int:
    return connection.status(apsw.SQLITE_DBSTATUS_CACHE_USED)[0]


_databases: Final[WeakSet[Database]] = WeakSet()
# Of a copy that was forked in the midst of a use: connections that must not even be closed, and the databases they are
# of, which SQLite in this process would lock wrongly.
_inherited: Final[list[apsw.Connection | None]] = []
_tainted: Final[set[str]] = set()


def _before_fork() -> None:
    for database in list(_databases):
        if not database.is_closed:
            database.pause()


def _after_fork() -> None:
    for database in list(_databases):
        database.resume()


def _begin_in_copy() -> None:
    for database in list(_databases):
        database.begin_in_copy()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_begin_in_copy)
