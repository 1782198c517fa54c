"""What SQLite and the system find wrong, as the store's own errors with the next thing to do."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import apsw

from memguard.errors import EpisodeStoreBusy, EpisodeStoreError

__all__ = ["Translated"]

_HINTS: Final[tuple[tuple[type[apsw.Error], str], ...]] = (
    (apsw.FullError, "the disk is full; free some space and add again: nothing of this was stored"),
    (apsw.CorruptError, "is damaged; `memguard episodes check` names what, and a copy can be exported"),
    (apsw.NotADBError, "is no database, or its beginning is damaged; restore it from a copy"),
    (apsw.ReadOnlyError, "cannot be written to; open it with read_only=True, or change its owner or mode"),
    (apsw.CantOpenError, "cannot be opened; is it a folder that this user may write to?"),
    (apsw.IOError, "the disk reported an error; nothing of this was stored"),
)


class Translated:
    """A block in which what SQLite or the system finds wrong is raised as the store's own errors.

    Args:
        path: of the database.
    """

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, apsw.Error | OSError) and not isinstance(error, EpisodeStoreError):
            raise self._own(error) from error

    def _own(self, error: apsw.Error | OSError) -> EpisodeStoreError:
        path = self._path
        if isinstance(error, OSError):
            what = error.filename or path
            return EpisodeStoreError(f"{what}: {error.strerror or error}", path=str(what))
        if isinstance(error, apsw.BusyError):
            return EpisodeStoreBusy(f"{path} stayed locked by another program: {error}", path=str(path))
        hint = next((told for kind, told in _HINTS if isinstance(error, kind)), str(error))
        return EpisodeStoreError(f"{path}: {hint} ({error})", path=str(path))
