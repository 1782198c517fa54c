"""Jobs and incidents written down as they end, for whoever opens the store next.

Comes in: a report. Goes out: a file in the folder ``incoming`` of the store, there whole or not at all, which takes
less than a millisecond and needs neither the store's engine nor its lock; whoever opens the store for writing takes
what has come in. It never raises and keeps no job waiting: what fails is told once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from memguard.config import Settings
from memguard.config.kinds import default_episodes
from memguard.errors import EpisodeStoreBusy
from memguard.ledger.records import Action
from memguard.redact import redact_error
from memguard.report import JobReport

if TYPE_CHECKING:
    from memguard.episodes.store import EpisodeStore

__all__ = ["INCOMING", "Recorder", "has_incoming", "take_in", "waiting_of"]

INCOMING: Final = "incoming"
_SCHEMA: Final = "memguard.recorded/1"
_UNREADABLE: Final = ".unreadable"
_PART: Final = ".part"
# It is written within a millisecond.
_PART_LASTS_S: Final = 3600.0
# So many wait before somebody who records opens the store himself, in a thread: it takes a tenth of a second.
_MOST_WAITING: Final = 256
# Where no store can be kept (a network file system, one of a newer memguard) all goes on waiting: in the usual place so
# many do, the newest, for each job that is recorded or forecast looks through their names.
_MOST_UNTAKEN: Final = 4096
# Of those who record while so many wait one in so many tries: the others need not open the store as well.
_TRY_EVERY: Final = 16
# Far longer than it takes; a disk that hangs keeps nobody from ending.
_LONGEST_WAIT_S: Final = 10.0
# In the usual place, whose owner may not know of it, so many are kept: some 60 MiB, and 128 of a kind are read at most.
_MOST_KEPT: Final = 20_000
# More than come in at a time, so a store that has too many gets smaller.
_FORGOTTEN_AT_ONCE: Final = 512
_AT_ONCE: Final = 64
# Far more than any document; what is larger was not written here.
_LARGEST_BYTES: Final = 4 << 20


class Recorder:
    """Writes jobs down where the setting ``episodes`` says; does nothing where it is unset.

    Args:
        settings: as read.
        tell: told once, in a sentence, what keeps it from its work.
    """

    def __init__(self, settings: Settings, tell: Callable[[str], None]) -> None:
        self._folder = settings.episodes
        # Nobody asked for the usual place by name, and not all machines let it be used.
        self._tell = tell if settings.origins.get("episodes") != "default" else _log
        self._has_failed = False
        self._thread: threading.Thread | None = None

    def job(
        self,
        report: JobReport,
        words: tuple[Sequence[object], Mapping[str, object]] = ((), {}),
        actions: Sequence[Action] = (),
    ) -> None:
        """Write a job down that has ended, and the steps that were taken against it.

        Args:
            report: of the job.
            words: positional and named arguments, of which types and shapes are kept.
            actions: what the sentinel did to it.
        """
        if self._folder is None:
            return
        try:
            waiting = _put(self._folder, _documents(report, words, actions))
            if waiting >= _MOST_WAITING and (waiting - _MOST_WAITING) % _TRY_EVERY == 0:
                self._thread = threading.Thread(target=self._take_in, name="memguard-recorder", daemon=True)
                self._thread.start()
            if waiting > _MOST_UNTAKEN and self._folder == default_episodes():
                _forget_waiting(self._folder)
        except Exception as error:  # noqa: BLE001 - whatever it is, the job it is about has ended and must be returned
            self._fail(error)

    def close(self) -> None:
        """Wait for what is taken in just now: who wraps a command ends at once, and records most of all."""
        if self._thread is not None:
            self._thread.join(_LONGEST_WAIT_S)

    def _take_in(self) -> None:
        try:
            from memguard.episodes.store import EpisodeStore  # noqa: PLC0415 - it loads numpy

            EpisodeStore(self._folder or "", write_wait_s=0).close()  # who opens it takes in
        except EpisodeStoreBusy:
            return  # somebody writes: it goes on waiting, for him or for a later one
        except Exception as error:  # noqa: BLE001 - nobody waits for this thread
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            self._tell(f"jobs are not recorded in {self._folder}: {redact_error(error)}")


def _log(fault: str) -> None:
    from memguard.log import get_logger  # noqa: PLC0415 - a wrapped command that is recorded has no use for it

    get_logger(__name__).info(fault)


def _documents(
    report: JobReport, words: tuple[Sequence[object], Mapping[str, object]], actions: Sequence[Action]
) -> list[dict[str, Any]]:
    # Only who wants it pays for it: the versions of packages are looked up.
    from memguard.episodes.recorded import incident_document, job_document, shapes_of  # noqa: PLC0415

    return [job_document(report, shapes_of(*words)), *(incident_document(each, report) for each in actions)]


def _put(folder: Path, documents: Sequence[Mapping[str, Any]]) -> int:
    """Write some documents as one file; return how many files wait."""
    place = folder / INCOMING
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    sizing = documents[0]["metadata"].get("sizing") or {}
    # They are taken in as they came; whoever wants the past of one kind opens no file of another.
    name = f"{time.time_ns():020d}.{documents[0]['id']}.{_key_of(sizing.get('kind', ''))}"
    beside = place / f".{name}{_PART}"
    try:
        content = json.dumps({"schema": _SCHEMA, "episodes": list(documents)}, allow_nan=False)
        with os.fdopen(
            os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w"
        ) as file:
            file.write(content)
        beside.rename(place / f"{name}.json")
    finally:
        beside.unlink(missing_ok=True)
    return sum(each.endswith(".json") for each in os.listdir(place))


def has_incoming(folder: Path) -> bool:
    """Whether something waits to be taken into a store."""
    return any(True for _ in _waiting(folder))


def waiting_of(folder: Path, kind: str) -> list[str]:
    """Return the names of the files in which jobs of a kind wait to be taken into a store, oldest first."""
    return [each.name for each in _waiting(folder) if each.name.endswith(f".{_key_of(kind)}.json")]


def _key_of(kind: str) -> str:
    return hashlib.sha256(kind.encode(errors="replace")).hexdigest()[:12]


def _waiting(folder: Path) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(folder / INCOMING))
    except (FileNotFoundError, NotADirectoryError):
        return
    yield from (folder / INCOMING / each for each in names if each.endswith(".json"))


def take_in(store: EpisodeStore) -> int:
    """Add what has come in to a store; return how many episodes that were.

    Ids follow from the jobs, so what another process takes in at the same time is there once. A file that is none of
    ours, or that the store refuses, is put aside as ``.unreadable``, and logged. In the usual place the oldest go when
    there are too many.

    Raises:
        EpisodeStoreError: if the store cannot be written; what has come in goes on waiting.
    """
    _sweep(store.folder)
    count, batch = 0, list[tuple[Path, list[Any]]]()
    for path in _waiting(store.folder):
        if (found := _read(path)) is not None:
            batch.append((path, found))
        if len(batch) >= _AT_ONCE:
            count += _add(store, batch)
            batch = []
    count += _add(store, batch)
    if count and store.folder == default_episodes():
        from memguard.episodes.recorded import NAMESPACE  # noqa: PLC0415 - it looks up versions of packages

        store.forget_old(NAMESPACE, _MOST_KEPT, max(_FORGOTTEN_AT_ONCE, 2 * count))
    return count


def _forget_waiting(folder: Path) -> None:
    for path in list(_waiting(folder))[:_FORGOTTEN_AT_ONCE]:
        path.unlink(missing_ok=True)  # another may do the same


def _sweep(folder: Path) -> None:
    """Remove what was begun by somebody who was killed meanwhile."""
    for path in (folder / INCOMING).glob(f".*{_PART}"):
        with contextlib.suppress(FileNotFoundError):  # it was finished, or swept by another
            if time.time() - path.stat().st_mtime > _PART_LASTS_S:
                path.unlink()


def _read(path: Path) -> list[Any] | None:
    from memguard.episodes.records import Episode  # noqa: PLC0415 - it loads numpy

    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ValueError("it is too large")
        content = json.loads(path.read_bytes())
        if content["schema"] != _SCHEMA:
            raise ValueError(f"its schema is {content['schema']!r:.40}")
        return [Episode(**each) for each in content["episodes"]]
    except FileNotFoundError:
        return None  # somebody else took it in
    except (ValueError, KeyError, TypeError, OSError) as error:
        _put_aside(path, error)
        return None


def _put_aside(path: Path, error: Exception) -> None:
    from memguard.log import get_logger  # noqa: PLC0415 - a wrapped command that is recorded has no use for it

    get_logger(__name__).warning(
        "what was recorded cannot be read", path=str(path), error=redact_error(error)
    )
    with contextlib.suppress(FileNotFoundError):  # somebody else did
        path.rename(path.with_name(path.name + _UNREADABLE))


def _add(store: EpisodeStore, batch: Sequence[tuple[Path, list[Any]]]) -> int:
    if not batch:
        return 0
    try:
        store.add_episodes(each for _, episodes in batch for each in episodes)
    except (ValueError, MemoryError) as error:  # one of them is refused: the others are not to suffer from it
        if len(batch) > 1:
            return sum(_add(store, [each]) for each in batch)
        if isinstance(error, ValueError):
            _put_aside(batch[0][0], error)
        return 0  # for want of room it goes on waiting
    for path, _ in batch:
        path.unlink(missing_ok=True)
    return sum(len(episodes) for _, episodes in batch)
