"""Episodes in and out: a batch at a time, gone on with where it was cut off, and as lines of JSON.

Comes in: a source. Goes out: what was added, with ids that follow from the source's content and the place in it, so
that the same again adds nothing; and lines.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from memguard.episodes.objects import ObjectSource
from memguard.episodes.records import Episode
from memguard.episodes.sources import FileSource, Record, Source, episode_in
from memguard.episodes.store import EpisodeStore
from memguard.errors import DataError, EpisodeConflict, EpisodeInvalid, EpisodeMissing

__all__ = ["Import", "Imported", "as_line", "import_file", "import_objects"]

_AT_ONCE: Final = 1000
_BYTES_AT_ONCE: Final = 32 << 20


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did.

    Attributes:
        records: of the file, up to its end; those of former imports among them.
        added: episodes that were not there before this run, and that it added.
        left_out: records that are no episodes.
    """

    records: int
    added: int
    left_out: int


class Import:
    """An import of a file into a store; call `run`, and after any death again.

    Args:
        store: where the episodes go.
        source: where they are.
        skip_bad: whether what is no episode is left out; otherwise the import stops there.
        on_bad: given what is wrong with each that is left out.
        on_progress: given how many bytes of the file were read, or objects.
    """

    def __init__(
        self,
        store: EpisodeStore,
        source: Source,
        *,
        skip_bad: bool = False,
        on_bad: Callable[[DataError], object] = lambda _: None,
        on_progress: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._store, self._source, self._skips, self._tell = store, source, skip_bad, on_bad
        self._advance, self._left_out = on_progress, 0
        self._name = f"import {source.mark}"

    @property
    def begun(self) -> int:
        """How many records of this file a former import ended behind, if it is still the same up to there."""
        return self._begun[0]

    @property
    def _begun(self) -> tuple[int, str]:
        done, _, proof = (self._store.mark(self._name) or "0").partition(" ")
        return int(done), proof

    def run(self) -> Imported:
        """Add what is not there yet.

        Raises:
            DataError: for a record that is no episode, unless such are skipped; all before it are in the store.
            EpisodeStoreError: if the store cannot be written.
        """
        done, proof = self._begun
        added = 0
        for some in _batches(self._source.records(done, proof)):
            added += self._add(some)
            done = some[-1].number
            self._advance(some[-1].read_bytes)
        return Imported(done, added, self._left_out)

    def _add(self, some: list[Record]) -> int:
        """Add what records mean; return how many were not there before."""
        wrong: list[tuple[int, DataError]] = []
        good = []
        for record in some:
            try:
                good.append((record, episode_in(self._source, record)))
            except DataError as error:
                wrong.append((record.number, error))
                if not self._skips:
                    self._add_good(good, good[-1][0] if good else None, wrong)
                    raise
        added = self._add_good(good, some[-1], wrong)
        self._left_out += len(wrong)
        for _, told in sorted(wrong, key=lambda each: each[0]):
            self._tell(told)
        return added

    def _add_good(
        self, good: list[tuple[Record, Episode]], last: Record | None, wrong: list[tuple[int, DataError]]
    ) -> int:
        if last is None:
            return 0
        try:
            return self._add_marked([episode for _, episode in good], last)
        except (EpisodeInvalid, EpisodeConflict):
            # One of them: all before it are to be there, and those behind it, if such are skipped.
            added = sum(self._add_one(record, episode, wrong) for record, episode in good)
            return added + self._add_marked([], last)

    def _add_one(self, record: Record, episode: Episode, wrong: list[tuple[int, DataError]]) -> int:
        try:
            return self._add_marked([episode], record)
        except (EpisodeInvalid, EpisodeConflict) as error:
            if self._was_deleted(episode.id):  # what was deleted is not to come back
                return 0
            told = self._source.wrong(record.number, str(error))
            if not self._skips:
                raise told from error
            wrong.append((record.number, told))
            return 0

    def _add_marked(self, episodes: list[Episode], last: Record) -> int:
        return len(self._store.add_marked(episodes, self._name, f"{last.number} {last.proof}"))

    def _was_deleted(self, episode_id: str) -> bool:
        try:
            return self._store.history(episode_id)[-1].what == "deleted"
        except EpisodeMissing:
            return False


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Give records together, as many as take little memory; of a source that breaks off all that came before."""
    some: list[Record] = []
    begun = 0
    try:
        for record in records:
            some.append(record)
            if len(some) == _AT_ONCE or record.read_bytes - begun > _BYTES_AT_ONCE:
                yield some
                some, begun = [], record.read_bytes
    except DataError:
        if some:
            yield some
        raise
    if some:
        yield some


def import_file(
    store: EpisodeStore,
    path: str | Path,
    *,
    namespace: str = "default",
    skip_bad: bool = False,
    on_bad: Callable[[DataError], object] = lambda _: None,
) -> Imported:
    """Add the episodes of a file; after any death call it again, and it goes on.

    Args:
        store: where they go.
        path: JSON lines (``.jsonl``), an array (``.json``), Parquet, or columns in ``.npz``; a pickle is never opened.
        namespace: where episodes go that do not say so themselves.
        skip_bad: leave out what is no episode, instead of stopping there.
        on_bad: given what is wrong with each that is left out, with its number.

    Raises:
        DataError: for a file that cannot be read, and a record that is no episode; all before it are in the store.
        EpisodeStoreError: if the store cannot be written.
    """
    return Import(store, FileSource(Path(path), namespace), skip_bad=skip_bad, on_bad=on_bad).run()


def import_objects(
    store: EpisodeStore,
    objects: Iterable[Any],
    *,
    name: str,
    namespace: str = "default",
    skip_bad: bool = False,
    on_bad: Callable[[DataError], object] = lambda _: None,
) -> Imported:
    """Add what another program has in memory, a thousand at a time; the same again, from its beginning, adds nothing.

    Args:
        store: where they go.
        objects: with ``text``, ``vector``, ``metadata``, as attributes or in mappings, or tuples of these; see
            `memguard.episodes.objects.ObjectSource`. They may come from a generator.
        name: tells these objects from others.
        namespace: where episodes go that do not say so themselves.
        skip_bad: leave out what is no episode, instead of stopping there.
        on_bad: given what is wrong with each that is left out, with its number.

    Raises:
        DataError: for an object that is no episode; all before it are in the store.
        EpisodeStoreError: if the store cannot be written.
    """
    return Import(store, ObjectSource(objects, name, namespace), skip_bad=skip_bad, on_bad=on_bad).run()


def as_line(episode: Episode) -> str:
    """Return an episode as a line of JSON, which an import reads again."""
    vector = None if episode.vector is None else np.asarray(episode.vector).tolist()
    known = {
        "id": episode.id,
        "namespace": episode.namespace,
        "kind": episode.kind,
        "happened_at_s": episode.happened_at_s,
        "version": episode.version,
        "noted_at_s": episode.noted_at_s,
        "text": episode.text,
        "metadata": dict(episode.metadata),
    }
    return json.dumps(known if vector is None else known | {"vector": vector}, ensure_ascii=False)
