"""Reading a ledger without making, changing or locking anything: for whoever only shows what is there.

Comes in: the path of a ledger's file. Goes out: what somebody reads in it, as it stood at one moment.
"""

from __future__ import annotations

import contextlib
import os
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import apsw

from memguard.errors import LedgerError
from memguard.ledger.patience import Patience
from memguard.ledger.store import VERSION, LedgerDamaged, Transaction, check_not_emptied, told

__all__ = ["looked_into"]

_T = TypeVar("_T")
# Who only shows what is there says so rather than keep a person waiting.
_LOOK_PATIENCE_S: Final = 0.5
_LOOKS: Final = 3


def looked_into(path: Path, act: Callable[[Transaction], _T]) -> _T:
    """Read what stands in a ledger at one moment; nothing is made or changed, and nobody is kept waiting.

    Raises:
        LedgerDamaged: if it is no ledger.
        LedgerError: if it cannot be read now, is locked, or was written by another version.
        FileNotFoundError: if there is none.
    """
    for _ in range(_LOOKS):
        before = os.stat(path)
        # Who has the file open has a log beside it. Where nobody has, even a reader would make one.
        alone = not os.path.exists(f"{path}-wal")
        try:
            seen = _look_once(path, act, alone=alone)
        except LedgerDamaged:
            if not alone or _is_untouched(path, before):
                raise
        else:
            if not alone or _is_untouched(path, before):
                return seen
    raise LedgerError(f"{path} changed under every look", path=str(path))


def _look_once(path: Path, act: Callable[[Transaction], _T], *, alone: bool) -> _T:
    check_not_emptied(path)
    name = f"file:{urllib.parse.quote(str(path))}?mode=ro{'&immutable=1' if alone else ''}"
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    with told(path, _LOOK_PATIENCE_S), contextlib.closing(apsw.Connection(name, flags=flags)) as connection:
        connection.set_busy_handler(Patience(_LOOK_PATIENCE_S))
        connection.execute("BEGIN")
        (version,) = next(iter(connection.execute("PRAGMA user_version")))
        if version != VERSION:
            raise _of_another_version(path, version)
        return act(Transaction(connection))


def _is_untouched(path: Path, before: os.stat_result) -> bool:
    now = os.stat(path)
    return (now.st_ino, now.st_size, now.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)


def _of_another_version(path: Path, version: int) -> LedgerError:
    if version > VERSION:
        why = f"was written by a newer memguard (version {version} of the file, not {VERSION}); use that one"
    elif version:
        why = f"was written by an older memguard (version {version} of the file); the next job begins anew"
    else:
        why = "is being made at this moment; look again"
    return LedgerError(f"{path} {why}", path=str(path))
