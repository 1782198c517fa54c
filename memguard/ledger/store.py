"""The ledger's file: leases as rows of an SQLite database that all processes of a user share.

Comes in: rows to write, inside one transaction at a time. Goes out: rows. SQLite is the one bundled with apsw: the
system's may be older than the repair of a rare corruption of its write-ahead log under concurrent writers (3.51.3).
Nothing is synchronised to disk: after a reboot every lease has ended anyway.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw

from memguard.errors import LedgerError
from memguard.host.readings import ProcessIdentity
from memguard.ledger.patience import PATIENCE_S, Patience
from memguard.ledger.records import Action, Lease

__all__ = ["VERSION", "LedgerDamaged", "LedgerStore", "Transaction", "check_not_emptied", "told"]

_T = TypeVar("_T")

VERSION: Final = 3
_SCHEMA: Final = """
CREATE TABLE lease(
    lease_id TEXT PRIMARY KEY,
    host TEXT NOT NULL, boot_id TEXT NOT NULL, pid INTEGER NOT NULL, start_ticks INTEGER NOT NULL,
    name TEXT NOT NULL,
    reserved_bytes INTEGER NOT NULL CHECK (reserved_bytes >= 0),
    priority INTEGER NOT NULL,
    asked_at_s REAL NOT NULL,
    granted_at_s REAL,
    parent_id TEXT NOT NULL,
    slot INTEGER NOT NULL UNIQUE,
    token INTEGER NOT NULL,
    domain TEXT NOT NULL,
    limit_bytes INTEGER NOT NULL,
    own_bytes INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE action(
    action_id INTEGER PRIMARY KEY,
    at_s REAL NOT NULL, wall_time_s REAL NOT NULL,
    lease_id TEXT NOT NULL, name TEXT NOT NULL, rung TEXT NOT NULL, why TEXT NOT NULL,
    used_bytes INTEGER NOT NULL, reserved_bytes INTEGER NOT NULL, freed_bytes INTEGER
);
CREATE INDEX action_of ON action(lease_id);
"""
_ACTION_COLUMNS: Final = (
    "lease_id, name, rung, why, used_bytes, reserved_bytes, freed_bytes, at_s, wall_time_s"
)
# What is told of the past; a storm of a thousand jobs is told whole.
_MOST_ACTIONS: Final = 2000
# Of former versions: nothing in them outlives the processes that wrote it, and those write it down again.
_FORGET: Final = "DROP TABLE IF EXISTS lease; DROP TABLE IF EXISTS action;"
_COLUMNS: Final = (
    "lease_id, host, boot_id, pid, start_ticks, name, reserved_bytes, priority, asked_at_s, granted_at_s, "
    "parent_id, slot, token, domain, limit_bytes, own_bytes"
)
_SELECT: Final = f"SELECT {_COLUMNS} FROM lease"
_INSERT: Final = f"INSERT INTO lease({_COLUMNS}) VALUES ({', '.join('?' * 16)})"
_LAST_STREAM: Final = 2


class LedgerDamaged(LedgerError):  # noqa: N818 - it says what is so, as the whole tree of errors does
    """The file is none of ours, or broken."""


def _lease(columns: tuple[Any, ...], used_of: Callable[[int, int], int]) -> Lease:
    (
        lease_id,
        host,
        boot_id,
        pid,
        ticks,
        name,
        reserved,
        priority,
        asked_s,
        granted_s,
        parent,
        slot,
        token,
        domain,
        limit,
        own,
    ) = columns
    owner = ProcessIdentity(host, boot_id, pid, ticks)
    used = used_of(slot, token)
    return Lease(
        lease_id,
        owner,
        name,
        reserved,
        used,
        priority,
        asked_s,
        granted_s,
        parent,
        slot,
        token,
        domain,
        limit,
        own,
    )


def _columns(lease: Lease) -> tuple[Any, ...]:
    owner = lease.owner
    return (
        lease.lease_id, owner.host, owner.boot_id, owner.pid, owner.start_ticks, lease.name, lease.reserved_bytes,
        lease.priority, lease.asked_at_s, lease.granted_at_s, lease.parent_id, lease.slot, lease.token,
        lease.domain, lease.limit_bytes, lease.own_bytes,
    )  # fmt: skip


class Transaction:
    """What can be done inside a transaction."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def leases(self, used_of: Callable[[int, int], int]) -> list[Lease]:
        """Return all leases, in no order; ``used_of`` tells what stands in a slot for a token."""
        return [_lease(each, used_of) for each in self._connection.execute(_SELECT)]

    def insert(self, lease: Lease) -> None:
        """Write a new lease."""
        self._connection.execute(_INSERT, _columns(lease))

    def grant(self, lease_id: str, now_s: float) -> None:
        """Note that a lease is granted."""
        self._connection.execute("UPDATE lease SET granted_at_s = ? WHERE lease_id = ?", (now_s, lease_id))

    def resize(self, lease_id: str, reserved_bytes: int, own_bytes: int) -> None:
        """Note a new size of a lease."""
        self._connection.execute(
            "UPDATE lease SET reserved_bytes = ?, own_bytes = ? WHERE lease_id = ?",
            (reserved_bytes, own_bytes, lease_id),
        )

    def delete(self, lease_id: str) -> None:
        """Remove a row; those that drew on its memory draw on what is around it from now on."""
        self._connection.execute(
            "UPDATE lease SET parent_id = coalesce((SELECT parent_id FROM lease WHERE lease_id = ?1), '') "
            "WHERE parent_id = ?1",
            (lease_id,),
        )
        self._connection.execute("DELETE FROM lease WHERE lease_id = ?", (lease_id,))

    def note_action(self, action: Action) -> int:
        """Write down what was done to a job; returns its number. The last ones are kept."""
        number: int = next(
            iter(
                self._connection.execute(
                    f"INSERT INTO action({_ACTION_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING action_id",
                    (
                        action.lease_id, action.name, action.rung, action.why, action.used_bytes,
                        action.reserved_bytes, action.freed_bytes, action.at_s, action.wall_time_s,
                    ),
                )
            )
        )[0]  # fmt: skip
        self._connection.execute("DELETE FROM action WHERE action_id <= ?", (number - _MOST_ACTIONS,))
        return number

    def note_effect(self, action_id: int, freed_bytes: int) -> None:
        """Write down what came of an action."""
        self._connection.execute(
            "UPDATE action SET freed_bytes = ? WHERE action_id = ?", (freed_bytes, action_id)
        )

    def actions(self, lease_id: str | None = None) -> list[Action]:
        """Return what was done, to one job or to all, the oldest first."""
        rows = self._connection.execute(
            f"SELECT {_ACTION_COLUMNS}, action_id FROM action WHERE ?1 IS NULL OR lease_id = ?1 ORDER BY action_id",
            (lease_id,),
        )
        return [Action(*row) for row in rows]


class LedgerStore:
    """The open file. Thread-safe; of no use in a forked copy, which must open its own.

    Args:
        path: the file; made if it is missing.

    Raises:
        LedgerDamaged: if it is no ledger.
        LedgerError: if it cannot be opened, or a newer memguard wrote it.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._place = path, os.fspath(path)
        self._owner_pid = os.getpid()
        self._lock = threading.Lock()
        check_not_emptied(path)
        self._fillers = _fill_streams()
        try:
            with told(path):
                _make_private(path)
                self._connection = apsw.Connection(str(path))
                try:
                    self._prepare()
                except BaseException:
                    self._connection.close()
                    raise
        except BaseException:
            self._empty_streams()
            raise
        self._inode = os.stat(path).st_ino

    def _prepare(self) -> None:
        connection = self._connection
        connection.set_busy_handler(Patience())
        self._check_version()
        _turn_to_wal(connection)
        connection.execute("PRAGMA synchronous = OFF")
        with self._immediate():
            if self._check_version() < VERSION:
                connection.execute(f"{_FORGET}; {_SCHEMA}; PRAGMA user_version = {VERSION}")

    def _check_version(self) -> int:
        """Return the version of the file; a newer one is refused before anything in it is changed."""
        (version,) = next(iter(self._connection.execute("PRAGMA user_version")))
        if version > VERSION:
            raise LedgerError(
                f"{self.path} was written by a newer memguard (version {version} of the file, this one knows "
                f"{VERSION}); use that one, or name another folder with the setting runtime_dir",
                path=str(self.path),
            )
        return int(version)

    @contextmanager
    def _immediate(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with contextlib.suppress(apsw.Error):  # SQLite has done it already after some errors
                self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Do several things as one: all of them, or on any error none.

        Raises:
            LedgerDamaged: if the file is broken.
            LedgerError: if it stays locked, is full, or cannot be written.
        """
        with self._lock, told(self.path), self._immediate():
            yield Transaction(self._connection)

    def leases(self) -> list[Lease]:
        """Return all leases, in no order and without what they use; waits for no writer.

        Raises:
            LedgerError: if it cannot be read.
        """
        with self._lock, told(self.path):
            return [_lease(each, lambda _slot, _token: 0) for each in self._connection.execute(_SELECT)]

    @property
    def version(self) -> int:
        """A number that is another one after somebody else changed the file."""
        with self._lock, told(self.path):
            (number,) = next(iter(self._connection.execute("PRAGMA data_version")))
        return int(number)

    def _empty_streams(self) -> None:
        while self._fillers:
            os.close(self._fillers.pop())

    @property
    def is_current(self) -> bool:
        """Whether it is still the file at its path, and this process may use it."""
        try:
            return self._owner_pid == os.getpid() and os.stat(self._place).st_ino == self._inode
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Close it; once or many times."""
        if self._owner_pid == os.getpid():
            self._connection.close()
            self._empty_streams()
        else:
            # SQLite must not touch what it shares with the parent; the descriptors go with this process.
            _abandoned.append(self._connection)


def _fill_streams() -> list[int]:
    """Occupy what is closed of stdin, stdout and stderr: SQLite would, with what a program started later inherits."""
    fillers: list[int] = []
    while (descriptor := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= _LAST_STREAM:
        fillers.append(descriptor)
    os.close(descriptor)
    return fillers


def _make_private(path: Path) -> None:
    """Make the file where it is missing, for its owner alone: what SQLite puts beside it is then his alone too."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    except OSError as error:
        raise LedgerError(f"{path} could not be used: {error.strerror or error}", path=str(path)) from error


def check_not_emptied(path: Path) -> None:
    """Refuse an empty file with a full log beside it: SQLite would wait for whoever has the former file open."""
    sizes = [os.stat(each).st_size if os.path.exists(each) else -1 for each in (path, f"{path}-wal")]
    if sizes[0] == 0 and sizes[1] > 0:
        raise LedgerDamaged(f"{path} is damaged: somebody emptied it", path=str(path))


def _turn_to_wal(connection: apsw.Connection) -> None:
    """Have the log written ahead. Where two do this to a new file, SQLite refuses one of them without waiting."""
    patience, tries = Patience(), 0
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except apsw.BusyError:
            if not patience(tries):
                raise
        tries += 1


_abandoned: Final[list[apsw.Connection]] = []


@contextmanager
def told(path: Path, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Say in the words of this project what SQLite met."""
    try:
        yield
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise LedgerDamaged(f"{path} is damaged: {error}", path=str(path)) from error
    except apsw.FullError as error:
        raise LedgerError(f"{path} could not be written: no space is left", path=str(path)) from error
    except apsw.BusyError as error:
        told = f"{path} was locked for {patience_s:g} s by another process"
        raise LedgerError(told, path=str(path)) from error
    except apsw.Error as error:
        if getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_SHORT_READ:
            raise LedgerDamaged(f"{path} is damaged: it was cut short", path=str(path)) from error
        raise LedgerError(f"{path} could not be used: {error}", path=str(path)) from error
