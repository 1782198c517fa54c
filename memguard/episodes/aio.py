"""The store for coroutines: the same methods, awaited; adds of many tasks are written under one commit.

Comes in: calls of coroutines of one loop. Goes out: what `EpisodeStore` gives. The work is done in threads of its own,
so nothing here blocks the loop, and no other work of the loop's executor waits for the disk.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

from memguard.episodes.grouping import Share
from memguard.episodes.records import Change, Episode, Hit, StoreStatistics
from memguard.episodes.store import EpisodeStore

__all__ = ["AsyncEpisodeStore"]

_T = TypeVar("_T")
_PAGE = 256


class AsyncEpisodeStore:
    """Episodes in a folder, for coroutines. Open it with ``async with`` or `open`; use it in one loop.

    Args:
        store: what does the work; it is closed with this one.
    """

    def __init__(self, store: EpisodeStore) -> None:
        self.store = store
        # One thread writes, and groups what came meanwhile; a few read.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="memguard-episodes-write")
        self._readers = ThreadPoolExecutor(4, thread_name_prefix="memguard-episodes-read")
        self._waiting: list[tuple[Share, asyncio.Future[list[str]]]] = []
        self._flush: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, folder: str | Path, **options: Any) -> Self:
        """Open or make a store; options and errors as of `EpisodeStore`."""
        return cls(await asyncio.to_thread(EpisodeStore, folder, **options))

    async def add_episode(self, episode: Episode) -> str:
        """As `EpisodeStore.add_episode`."""
        return (await self.add_episodes([episode]))[0]

    async def add_episodes(self, episodes: Iterable[Episode]) -> list[str]:
        """As `EpisodeStore.add_episodes`; what tasks add at the same time is written under one commit.

        A task that is cancelled meanwhile may have added or not.
        """
        given = list(episodes)
        # An embedder may take long; without one it takes less than to ask a thread.
        embeds = self.store.embedder is not None and any(each.vector is None for each in given)
        prepare = functools.partial(self.store.prepared, given)
        share = Share(await self._aside(self._readers, prepare) if embeds else prepare())
        if not share.batch:
            return []
        future: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self._waiting.append((share, future))
        if self._flush is None:
            self._flush = asyncio.create_task(self._write_all())
        return await future

    async def _write_all(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                taken, self._waiting = self._waiting, []
                shares = [share for share, _ in taken]
                try:
                    await loop.run_in_executor(self._writer, self.store.write_shares, shares)
                except Exception as error:  # noqa: BLE001 - each caller gets it
                    _give_error(taken, error)
                _tell(taken)
        finally:
            self._flush = None

    async def update(self, episode_id: str, **changes: Any) -> int:
        """As `EpisodeStore.update`."""
        return await self._aside(self._writer, functools.partial(self.store.update, episode_id, **changes))

    async def delete(self, episode_id: str, *, purge: bool = False) -> None:
        """As `EpisodeStore.delete`."""
        await self._aside(self._writer, functools.partial(self.store.delete, episode_id, purge=purge))

    async def get_episode(self, episode_id: str, *, version: int | None = None) -> Episode:
        """As `EpisodeStore.get_episode`."""
        return await self._aside(
            self._readers, functools.partial(self.store.get_episode, episode_id, version=version)
        )

    async def history(self, episode_id: str) -> tuple[Change, ...]:
        """As `EpisodeStore.history`."""
        return await self._aside(self._readers, functools.partial(self.store.history, episode_id))

    async def search_episodes_by_vector(self, vector: Any, top_k: int = 10, **conditions: Any) -> list[Hit]:
        """As `EpisodeStore.search_episodes_by_vector`."""
        act = functools.partial(self.store.search_episodes_by_vector, vector, top_k, **conditions)
        return await self._aside(self._readers, act)

    async def search_episodes_by_text(self, query: str, top_k: int = 10, **conditions: Any) -> list[Hit]:
        """As `EpisodeStore.search_episodes_by_text`."""
        act = functools.partial(self.store.search_episodes_by_text, query, top_k, **conditions)
        return await self._aside(self._readers, act)

    async def search(self, query: str, vector: Any = None, top_k: int = 10, **conditions: Any) -> list[Hit]:
        """As `EpisodeStore.search`."""
        act = functools.partial(self.store.search, query, vector, top_k, **conditions)
        return await self._aside(self._readers, act)

    async def episodes(self, **conditions: Any) -> AsyncIterator[Episode]:
        """As `EpisodeStore.episodes`, for ``async for``."""
        pages = self.store.pages(**conditions)
        while (page := await self._aside(self._readers, functools.partial(next, pages, None))) is not None:
            for episode in page:
                yield episode

    async def statistics(self) -> StoreStatistics:
        """As `EpisodeStore.statistics`."""
        return await self._aside(self._readers, self.store.statistics)

    async def _aside(self, executor: ThreadPoolExecutor, act: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(executor, act)

    async def close(self) -> None:
        """Write what is waiting, and close the store."""
        if self._flush is not None:
            await asyncio.wait([self._flush])
        await self._aside(self._writer, self.store.close)
        self._writer.shutdown()
        self._readers.shutdown()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _give_error(taken: list[tuple[Share, asyncio.Future[list[str]]]], error: Exception) -> None:
    for share, _ in taken:
        if not share.is_done:
            share.error = error


def _tell(taken: list[tuple[Share, asyncio.Future[list[str]]]]) -> None:
    for share, future in taken:
        if future.cancelled():
            continue
        if share.error is not None:
            future.set_exception(share.error)
        else:
            future.set_result(share.ids or [])
