"""What SQLite and the system find wrong, as the store's own errors with the next thing to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from memguard.errors import EpisodeStoreBusy, EpisodeStoreError

__all__ = ["translated"]

_HINTS: Final[tuple[tuple[type[apsw.Error], str], ...]] = (
    (apsw.FullError, "the disk is full; free some space and add again: nothing of this was stored"),
    (apsw.CorruptError, "is damaged; `memguard episodes check` names what, and a copy can be exported"),
    (apsw.NotADBError, "is no database, or its beginning is damaged; restore it from a copy"),
    (apsw.ReadOnlyError, "cannot be written to; open it with read_only=True, or change its owner or mode"),
    (apsw.CantOpenError, "cannot be opened; is it a folder that this user may write to?"),
    (apsw.IOError, "the disk reported an error; nothing of this was stored"),
)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise what SQLite or the system finds wrong as the store's own errors."""
    try:
        yield
    except apsw.BusyError as error:
        raise EpisodeStoreBusy(f"{path} stayed locked by another program: {error}", path=str(path)) from error
    except apsw.Error as error:
        hint = next((told for kind, told in _HINTS if isinstance(error, kind)), str(error))
        raise EpisodeStoreError(f"{path}: {hint} ({error})", path=str(path)) from error
    except OSError as error:
        if isinstance(error, EpisodeStoreError):
            raise
        what = error.filename or path
        raise EpisodeStoreError(f"{what}: {error.strerror or error}", path=str(what)) from error
