"""All past jobs of a store with what was forecast for them, newest first, for whoever reckons how well that was kept.

Comes in: the folder of a store. Goes out: `Entry` after `Entry`, read one by one and at most so many; the store is only
read, and what waits beside it to be taken in is read too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from memguard.episodes.recorder import INCOMING
from memguard.errors import EpisodeStoreError
from memguard.forecasting.past import PastJob, past_of

__all__ = ["MOST_JOBS", "Entry", "entries_of"]

# Weeks of a busy machine; to read them takes about a second.
MOST_JOBS: Final = 20_000
_JOBS: Final = (
    "SELECT id, happened_us, metadata FROM episode WHERE kind = 'job' AND op < 3 AND is_live "
    "AND json_extract(metadata, '$.sizing.kind') IS NOT NULL ORDER BY happened_us DESC LIMIT ?"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A job that has ended.

    Attributes:
        job: what can be learned from it.
        promised: whether a rate was promised for its forecast.
        is_retry: whether it was another try of the same job, sized by no forecast.
    """

    job: PastJob
    promised: bool
    is_retry: bool


def entries_of(folder: Path, most: int = MOST_JOBS) -> Iterator[Entry]:
    """Yield past jobs, newest first; nothing where there is no store.

    Args:
        folder: of the store.
        most: how many.

    Raises:
        EpisodeStoreError: if there is a store and it cannot be read.
    """
    seen = set[str]()
    for entry in _all(folder, most):
        if entry.job.id not in seen:  # taken in while this was read
            seen.add(entry.job.id)
            yield entry
        if len(seen) >= most:
            return


def _all(folder: Path, most: int) -> Iterator[Entry]:
    yield from _waiting(folder)
    if (folder / "episodes.sqlite").is_file():
        yield from _stored(folder, most)


def _stored(folder: Path, most: int) -> Iterator[Entry]:
    from memguard.episodes.database import Database  # noqa: PLC0415 - the engine takes some milliseconds to load
    from memguard.episodes.durability import Durability  # noqa: PLC0415

    database = Database(folder, Durability.POWER_LOSS, read_only=True, write_wait_s=0)
    with closing(database), database.reading() as connection:
        for id_, happened_us, metadata in connection.execute(_JOBS, (most,)):
            yield from _entry(id_, happened_us / 1e6, json.loads(metadata))


def _waiting(folder: Path) -> Iterator[Entry]:
    try:
        names = sorted(
            (each.name for each in (folder / INCOMING).iterdir() if each.suffix == ".json"), reverse=True
        )
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        place = folder / INCOMING
        raise EpisodeStoreError(f"{place} cannot be read: {error.strerror}", path=str(place)) from error
    for name in names:
        try:
            episodes = json.loads((folder / INCOMING / name).read_bytes())["episodes"]
            found = [
                entry
                for each in episodes
                for entry in _entry(each["id"], each["happened_at_s"], each["metadata"])
            ]
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue  # taken in meanwhile, or none of ours: whoever takes in says so
        yield from found


def _entry(id_: str, happened_at_s: float, metadata: Mapping[str, Any]) -> Iterator[Entry]:
    job = past_of(id_, metadata)
    if job is None:
        return
    if not job.happened_at_s:
        job = replace(job, happened_at_s=happened_at_s)
    yield Entry(job, metadata["sizing"].get("promised") is True, bool(metadata.get("attempts")))
