"""The two files of a ledger, kept usable: a damaged one is put aside, one that was replaced is opened anew.

Comes in: the folder. Goes out: transactions and the board. What was lost with a damaged file its owners write down
again, each his own; `memguard.ledger.book` does.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from memguard.errors import LedgerError
from memguard.ledger.board import Board
from memguard.ledger.place import ledger_folder
from memguard.ledger.seat import BOARD
from memguard.ledger.store import LedgerDamaged, LedgerStore, Transaction

__all__ = ["LedgerFiles"]

_T = TypeVar("_T")
_SUFFIXES: Final = ("", "-wal", "-shm")


class LedgerFiles:
    """The open files. Of no use in a forked copy.

    Args:
        folder: where they are.

    Raises:
        LedgerError: if they cannot be had.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "ledger.sqlite"
        self.board = _open_board(folder / BOARD)
        # What stood on the board before this one, where that was removed with its folder.
        self.former_figures: bytes | None = None
        try:
            self._store = self._opened()
        except BaseException:
            self.board.close()
            raise

    def _opened(self) -> LedgerStore:
        try:
            return LedgerStore(self._path)
        except LedgerDamaged:
            return self._replaced()

    def _replaced(self) -> LedgerStore:
        """Put a damaged file aside, for whoever wants to see what broke it, and begin a new one."""
        with _alone(self._folder / "replacing"):
            try:
                return LedgerStore(self._path)  # somebody was faster
            except LedgerDamaged:
                for suffix in _SUFFIXES:
                    _put_aside(f"{self._path}{suffix}", f"{self._path}.damaged{suffix}")
                return LedgerStore(self._path)

    def run(self, act: Callable[[Transaction], _T]) -> _T:
        """Run something as one transaction; again in a new file where the old one turns out to be damaged."""
        self.current()
        try:
            return self._transact(act)
        except LedgerDamaged:
            self._renew(self._replaced)
            return self._transact(act)

    @property
    def is_current(self) -> bool:
        """Whether what is open is still the file at its path."""
        return self._store.is_current and self.board.is_there

    def current(self) -> LedgerStore:
        """Return the open file, opened anew where it was replaced."""
        if self.is_current:
            return self._store
        # Made again where it was removed; and looked at, for somebody else may have made it meanwhile.
        ledger_folder(self._folder)
        if not self._store.is_current:
            self._renew(self._opened)
        if not self.board.is_there:
            self._renew_board()
        return self._store

    def _renew_board(self) -> None:
        board = _open_board(self._folder / BOARD)
        self.former_figures = self.board.copy()
        self.board.close()
        self.board = board

    def _renew(self, opened: Callable[[], LedgerStore]) -> None:
        self._store.close()
        self._store = opened()

    def _transact(self, act: Callable[[Transaction], _T]) -> _T:
        with self._store.transaction() as transaction:
            return act(transaction)

    def close(self) -> None:
        """Close both; once or many times."""
        self._store.close()
        self.board.close()


def _open_board(path: Path) -> Board:
    try:
        return Board(path)
    except OSError as error:
        raise LedgerError(f"{path} could not be used: {error.strerror or error}", path=str(path)) from error


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock that the kernel releases with this process."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _put_aside(path: str, place: str) -> None:
    try:
        os.replace(path, place)
    except FileNotFoundError:
        return
