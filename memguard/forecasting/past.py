"""The past of a kind of job, read from the store of episodes in which jobs are written down.

Comes in: the folder of a store, a kind. Goes out: its jobs, oldest first, as what can be learned from them, and those
that were withdrawn. What waits beside the store to be taken in is read too, so that a job is known as soon as it has
ended. Nothing is kept open between two looks, and the store is only read.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from memguard.episodes.recorder import INCOMING, waiting_of
from memguard.errors import EpisodeStoreError
from memguard.report import JobReport

__all__ = ["Look", "Past", "PastJob", "figures_of", "has_past", "past_of", "peaks_of_phases"]

# Far more than the usual rates take; to learn them takes some hundredths of a second, and a command waits for it.
_MOST_JOBS: Final = 128
# A process that lives for weeks may meet more kinds; those are read anew when they come again.
_MOST_KINDS: Final = 1000
# No figure of a job is larger; whole numbers in JSON can be.
_LARGEST: Final = 1e300
_COMPLETED: Final = "completed"
_OUT_OF_MEMORY: Final = frozenset({"memory_error", "budget_kill", "budget_soft_stop", "kernel_oom"})
# The index `job_kind` serves it: see memguard/episodes/schema.py.
_JOBS: Final = (
    "SELECT row, id, is_live, CASE WHEN row > ? THEN metadata END FROM episode WHERE kind = 'job' AND op < 3 "
    "AND json_extract(metadata, '$.sizing.kind') = ? ORDER BY row DESC LIMIT ?"
)
# Of those with such ids the ones whose every version is gone; what was forgotten for its age has none left.
_DELETED: Final = (
    "SELECT id FROM episode WHERE id IN (SELECT value FROM json_each(?)) GROUP BY id HAVING max(is_live) = 0"
)


@dataclass(frozen=True, slots=True)
class PastJob:
    """A job that has ended, as far as something can be learned from it.

    Attributes:
        id: of its episode.
        kind: as `Likeness.kind`.
        world: as `Likeness.world`.
        features: as `Likeness.features`.
        peak_bytes: what it used at most; ``None`` for one that ran out of memory.
        exceeded_bytes: what that one needed more than; ``None`` for one that completed.
        runtime_s: how long it ran.
        predicted_bytes: what was reserved by forecast; ``None`` where there was none.
        uncorrected_bytes: the same before misses of its past made it larger.
        happened_at_s: when it ended, seconds since 1970; 0.0 where nobody knows.
        name: what it was called.
        phases: the peak inside each part that it told, by name, in bytes, in order.
        batch_rows: the largest batch that it worked in; 0 for none.
    """

    id: str
    kind: str
    world: str
    features: Mapping[str, float]
    peak_bytes: float | None
    exceeded_bytes: float | None
    runtime_s: float
    predicted_bytes: float | None = None
    uncorrected_bytes: float | None = None
    happened_at_s: float = 0.0
    name: str = ""
    phases: Mapping[str, float] = field(default_factory=dict)
    batch_rows: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """What was new at a look.

    Attributes:
        jobs: that ended since the last one, oldest first.
        withdrawn: ids of episodes that were deleted or replaced since.
    """

    jobs: tuple[PastJob, ...]
    withdrawn: tuple[str, ...]


@dataclass(slots=True)
class _Seen:
    """How far the past of one kind has been read: rows, what waits, and who is known and not met in the store yet."""

    row: int = 0
    ids: dict[str, int] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    unmet: set[str] = field(default_factory=set)


def has_past(folder: Path, kind: str) -> bool:
    """Whether anything is known of a kind of job; where that cannot be read, who reads it next finds out why."""
    try:
        return bool(waiting_of(folder, kind) or _rows_of(folder, kind, after=0, most=1))
    except (EpisodeStoreError, OSError):
        return True


class Past:
    """Reads what is new since it was last asked, kind by kind. Not safe for threads.

    Args:
        folder: of a store; it need not be there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: OrderedDict[str, _Seen] = OrderedDict()

    def news(self, kind: str) -> Look:
        """Return what has ended since the last call for this kind; the first time all that counts.

        Raises:
            EpisodeStoreError: if there is a store and it cannot be read.
        """
        seen = self._seen.setdefault(kind, _Seen())
        self._seen.move_to_end(kind)
        if len(self._seen) > _MOST_KINDS:
            self._seen.popitem(last=False)
        # First: what waits no more by now is in the store, or was deleted there.
        waiting = waiting_of(self._folder, kind)
        jobs, withdrawn = self._stored(kind, seen)
        unmet = {_id_in(name) for name in waiting}
        withdrawn += self._deleted(seen.unmet - unmet - seen.ids.keys() - {*withdrawn})
        seen.unmet = unmet
        jobs += self._waiting(kind, seen, waiting)
        return Look(tuple(jobs), tuple(withdrawn))

    def note(self, kind: str, id_: str) -> None:
        """Note that a job is known which is about to be written down: it may be deleted before the next look."""
        self._seen.setdefault(kind, _Seen()).unmet.add(id_)

    def forget(self, kind: str) -> None:
        """Begin anew with a kind: whoever learned from what was read of it does not know it any more."""
        self._seen.pop(kind, None)

    def _stored(self, kind: str, seen: _Seen) -> tuple[list[PastJob], list[str]]:
        rows = _rows_of(self._folder, kind, after=seen.row, most=_MOST_JOBS)
        if rows and rows[0][0] < seen.row:  # rows only grow: this is another store in the place of that one
            rows = _rows_of(self._folder, kind, after=0, most=_MOST_JOBS)
        # Deleted or replaced since the last look, perhaps before it was seen here.
        replaced = {id_ for row, id_, is_live, _ in rows if row > seen.row and not is_live}
        jobs, live = [], dict[str, int]()
        for row, id_, is_live, metadata in reversed(rows):
            if not is_live:
                continue
            live[id_] = row
            if metadata is not None and (job := past_of(id_, _document(metadata))) is not None:
                jobs.append(job)
        oldest = rows[-1][0] if rows else 0
        gone = [id_ for id_, row in seen.ids.items() if live.get(id_) != row and row >= oldest]
        gone += replaced - seen.ids.keys()
        if (
            len(rows) < _MOST_JOBS
        ):  # none is too old to be met: the oldest were purged, or forgotten for their age
            seen.unmet |= {id_ for id_ in seen.ids if id_ not in live} - {*gone}
        seen.ids = live
        seen.row = rows[0][0] if rows else 0
        return jobs, gone

    def _deleted(self, ids: set[str]) -> list[str]:
        return [row[0] for row in _asked(self._folder, _DELETED, (json.dumps(sorted(ids)),))] if ids else []

    def _waiting(self, kind: str, seen: _Seen, names: list[str]) -> list[PastJob]:
        # Where no store can be kept all that was ever written down goes on waiting.
        newest = names[-_MOST_JOBS:]
        found = [job for name in newest if name not in seen.files for job in self._in_file(name)]
        seen.files = set(names)
        return [job for job in found if job.kind == kind]

    def _in_file(self, name: str) -> Iterator[PastJob]:
        try:
            episodes = json.loads((self._folder / INCOMING / name).read_bytes())["episodes"]
            for each in episodes:
                job = past_of(each["id"], each["metadata"])
                if job is not None:
                    yield job
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return  # taken in meanwhile, or none of ours: whoever takes in says so


def _rows_of(folder: Path, kind: str, *, after: int, most: int) -> list[Any]:
    """Return the newest rows of a kind, newest first, with the metadata of those after a row."""
    return _asked(folder, _JOBS, (after, kind, most))


def _asked(folder: Path, question: str, values: tuple[object, ...]) -> list[Any]:
    """Return what a store answers; nothing where there is none."""
    if not (folder / "episodes.sqlite").is_file():
        return []
    # The store's engine takes some milliseconds to load.
    from memguard.episodes.database import Database  # noqa: PLC0415
    from memguard.episodes.durability import Durability  # noqa: PLC0415

    database = Database(folder, Durability.POWER_LOSS, read_only=True, write_wait_s=0)
    with closing(database), database.reading() as connection:
        return connection.execute(question, values).fetchall()


def _id_in(name: str) -> str:
    """Return whose file it is: a name has a moment, an id and what tells the kind, with dots between."""
    return name.partition(".")[2].rsplit(".", 2)[0]


def past_of(id_: str, metadata: Mapping[str, Any]) -> PastJob | None:
    """Return what can be learned from a job's episode; ``None`` where nothing can.

    One that failed for another reason than memory, or was stopped, tells nothing: it may have been far from its peak.
    """
    sizing = metadata.get("sizing")
    if not isinstance(sizing, dict) or not isinstance(sizing.get("features"), dict):
        return None
    peak, exceeded = _figures(metadata)
    if peak is None and exceeded is None:
        return None
    # Another try was given what the first one lacked: no forecast of its own was put to the test.
    tested = {} if metadata.get("attempts") else sizing
    return PastJob(
        id=id_,
        kind=str(sizing.get("kind", "")),
        world=str(sizing.get("world", "")),
        features={
            name: found for name, each in sizing["features"].items() if (found := _size(each)) is not None
        },
        peak_bytes=peak,
        exceeded_bytes=exceeded,
        runtime_s=_size(metadata.get("duration_s")) or 0.0,
        predicted_bytes=_size(tested.get("predicted_bytes")),
        uncorrected_bytes=_size(tested.get("uncorrected_bytes")),
        happened_at_s=_size(metadata.get("ended_at_s")) or 0.0,
        name=str(metadata.get("name", "")),
        phases=peaks_of_phases(_phases(metadata)),
        batch_rows=_batch_rows(metadata),
    )


def _phases(metadata: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    found = metadata.get("phases")
    for each in found if isinstance(found, list) else ():
        if isinstance(each, dict) and (peak := _size(each.get("peak_bytes"))) is not None:
            yield str(each.get("name", "")), peak


def _batch_rows(metadata: Mapping[str, Any]) -> int:
    found = metadata.get("batches")
    return int(_size(found.get("largest_rows")) or 0) if isinstance(found, dict) else 0


def peaks_of_phases(told: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Return the peak of each part by its name; none of a job that came back to one, for its parts have no order."""
    pairs = list(told)
    found = dict(pairs)
    return found if len(found) == len(pairs) else {}


def figures_of(report: JobReport) -> tuple[float | None, float | None]:
    """Return the peak of a job, or, if it ran out of memory, what it needed more than; in bytes."""
    return _figures(
        {
            "outcome": report.outcome.value,
            "reason": report.reason,
            "peak_bytes": report.proven_peak_bytes,
            "budget_bytes": report.budget.limit_bytes,
        }
    )


def _figures(metadata: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return the peak, or what was exceeded."""
    peak = max(
        (
            each
            for name in ("peak_bytes", "proven_peak_bytes")
            if (each := _size(metadata.get(name))) is not None
        ),
        default=None,
    )
    if metadata.get("outcome") == _COMPLETED:
        return peak, None
    if metadata.get("outcome") not in _OUT_OF_MEMORY:
        return None, None
    # Ended for the machine's sake it was below its budget.
    limit = None if metadata.get("reason") == "machine_pressure" else _size(metadata.get("budget_bytes"))
    return None, max(peak or 0.0, limit or 0.0) or None


def _size(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= _LARGEST else None


def _document(metadata: str) -> dict[str, Any]:
    try:
        found = json.loads(metadata)
    except (
        ValueError
    ):  # a figure with thousands of digits: whoever wrote that told nothing that can be learned
        return {}
    return found if isinstance(found, dict) else {}
