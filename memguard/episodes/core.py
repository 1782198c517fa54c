"""What all of a store's methods stand on: its database, its files, its cache, and how it ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self
from weakref import WeakSet

import apsw

from memguard.config import Settings, load_settings
from memguard.episodes.affording import Affording
from memguard.episodes.database import Database
from memguard.episodes.durability import Durability
from memguard.episodes.embedding import Embedder
from memguard.episodes.grouping import Group
from memguard.episodes.holding import Holding
from memguard.episodes.living import Living
from memguard.episodes.namespaces import Namespace
from memguard.episodes.purging import Debt, owed
from memguard.episodes.reading import Reading, Stored
from memguard.episodes.vectors import VectorFiles
from memguard.episodes.writing import Writing
from memguard.errors import EpisodeStoreError
from memguard.host.heap import trim_heap
from memguard.memory.cache import ByteCache
from memguard.memory.shedding import register_sheddable
from memguard.units import MIB, parse_bytes

__all__ = ["StoreCore"]

# Below this a page or two of SQLite are left, which it needs, and giving back costs more than it brings.
_WORTH_GIVING_BYTES: Final = 256 * 1024


class StoreCore:
    """An open store, of whose methods those that read and write stand in its heirs; see `EpisodeStore`."""

    def __init__(
        self,
        folder: str | Path,
        *,
        durability: Durability | str = Durability.POWER_LOSS,
        cache_entries: int = 100,
        cache_bytes: str | int = 8 * MIB,
        max_text_bytes: str | int = 16 * MIB,
        write_wait_s: float = 60.0,
        read_only: bool = False,
        embedder: Embedder | None = None,
        settings: Settings | None = None,
    ) -> None:
        settings = load_settings() if settings is None else settings
        self.folder = Path(folder).absolute()
        self._durability = Durability(durability)
        self._most_text_bytes = parse_bytes(max_text_bytes)
        self._cache: ByteCache[int, Stored] = ByteCache(cache_entries, parse_bytes(cache_bytes))
        self._files: dict[int, VectorFiles] = {}
        self._living: dict[int, Living] = {}
        self._files_lock = threading.Lock()
        self._database = Database(
            self.folder, self._durability, read_only=read_only, write_wait_s=write_wait_s
        )
        with self._database.reading() as connection:
            self.debt = Debt(is_open=owed(connection) is not None)
        self.embedder = embedder
        self._group = Group()
        self._affording = Affording()
        _stores.add(self)
        self._forget_sheddable = register_sheddable(self)
        self.holding = Holding(self, settings)
        self._begin()

    def _begin(self) -> None:
        """Do what is to be done when it has been opened."""

    # What a pool says of itself, for `memguard.memory.Sheddable`.
    @property
    def name(self) -> str:
        """What reports call it."""
        return f"episode store {self.folder.name}"

    @property
    def held_bytes(self) -> int:
        """What its caches hold in this process, SQLite's own too."""
        return self._cache.held_bytes + self._database.cached_bytes()

    @property
    def most_held_bytes(self) -> int:
        """What its caches can hold in this process."""
        return self._cache.most_bytes + self._database.most_cached_bytes

    def fill_caches(self, *, fill: bool) -> None:
        """Keep in memory what is read from now on, or do not."""
        self._cache.pause(paused=not fill)

    def shed(self, wanted_bytes: int) -> int:
        """Give the caches back and go on from the disk; return the bytes that they held."""
        held = self.held_bytes
        self._cache.shed()
        if held >= _WORTH_GIVING_BYTES:
            self._database.give_back()
            trim_heap()
        return max(0, held - self.held_bytes)

    def _writing(self, connection: apsw.Connection) -> Writing:
        return Writing(connection, self._files_of, syncs=self._durability is Durability.POWER_LOSS)

    @contextmanager
    def _look(self) -> Iterator[tuple[apsw.Connection, Reading]]:
        self.holding.ensure()
        with self._database.reading() as connection:
            yield connection, self._reading(connection)

    def _reading(self, connection: apsw.Connection) -> Reading:
        return Reading(connection, self._files_of)

    def _files_of(self, namespace: Namespace) -> VectorFiles:
        with self._files_lock:
            known = self._files.get(namespace.number)
            # The number of an add that was rolled back is given out again, perhaps for vectors of another size.
            if known is None or known.dimension != namespace.dimension:
                assert namespace.dimension is not None
                folder = self.folder / "vectors"
                read_only = self._database.read_only
                known = VectorFiles(folder, namespace.number, namespace.dimension, read_only=read_only)
                self._files[namespace.number] = known
            return known

    def _living_of(self, namespace: Namespace) -> Living:
        return self._living.setdefault(namespace.number, Living())

    def close(self) -> None:
        """Let go of everything."""
        self._forget_sheddable()
        self.holding.end()
        self._database.close()
        self._files.clear()  # those in use are closed when they are not any more
        self._cache.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self.close()
        except EpisodeStoreError as closing:
            if error is None:
                raise
            error.add_note(f"the store could not be closed in order either, which loses nothing: {closing}")

    def renew_locks(self) -> None:
        """Take new locks in a forked copy: threads that do not exist there may hold the old ones."""
        self._files_lock = threading.Lock()
        self._cache.renew_lock()
        self.holding.renew_lock()
        self._group.renew()


_stores: Final[WeakSet[StoreCore]] = WeakSet()


def _renew_in_child() -> None:
    for store in list(_stores):
        store.renew_locks()


os.register_at_fork(after_in_child=_renew_in_child)
