"""Where the ledger of this machine and user is. Every process of the user must come to the same answer by itself.

Comes in: the user, and the setting ``runtime_dir``. Goes out: a folder that nobody else can write. Not below
XDG_RUNTIME_DIR: a login has it, a cron job has not, and it is removed with the last login while jobs go on.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from memguard.errors import LedgerError

__all__ = ["find_ledger_folder", "ledger_folder"]


def ledger_folder(chosen: Path | None = None) -> Path:
    """Return the folder of this user's ledger, made if it is missing, with mode 0700.

    Args:
        chosen: the setting ``runtime_dir``; ``None`` takes the first that can be had of /run/memguard (for root),
            /dev/shm/memguard-UID and the same in the folder for temporary files.

    Raises:
        LedgerError: if there is none, or somebody else owns it or could write into it.
    """
    places = [chosen] if chosen is not None else list(_places(os.getuid()))
    refusals = []
    for place in places:
        try:
            place.mkdir(mode=0o700, parents=chosen is not None, exist_ok=True)
        except OSError as error:
            refusals.append(f"{place}: {error.strerror}")
            continue
        _check_safe(place)
        return place
    raise LedgerError(
        f"there is no place for the ledger ({'; '.join(refusals)}); name a folder with the setting runtime_dir",
        path=str(places[-1]),
    )


def find_ledger_folder(chosen: Path | None = None) -> Path | None:
    """Return the folder in which this user's ledger is, if there is one; nothing is made.

    Raises:
        LedgerError: if somebody else owns it or could write into it.
        OSError: if it cannot be looked at.
    """
    for place in [chosen] if chosen is not None else _places(os.getuid()):
        try:
            _check_safe(place)
        except (FileNotFoundError, NotADirectoryError):
            continue
        return place
    return None


def _places(uid: int) -> Iterator[Path]:
    if uid == 0:
        yield Path("/run/memguard")
    yield Path(f"/dev/shm/memguard-{uid}")
    yield Path(tempfile.gettempdir()) / f"memguard-{uid}"


def _check_safe(place: Path) -> None:
    """Refuse a folder in which somebody else could put a ledger of his own making.

    The first folder that exists is taken or refused, never passed over: else whoever spoils it could part processes
    that must know of each other.
    """
    status = place.lstat()
    why = ""
    if not stat.S_ISDIR(status.st_mode):
        why = "is no folder"
    elif status.st_uid != os.getuid():
        why = f"belongs to user {status.st_uid}"
    elif status.st_mode & 0o022:
        why = "can be written by others"
    if why:
        raise LedgerError(
            f"{place} {why}, so no ledger is kept there; correct it, or name another folder with the setting "
            "runtime_dir",
            path=str(place),
        )
