"""The store for coroutines: the same methods, awaited; adds of many tasks are written under one commit.

Comes in: calls of coroutines of one loop. Goes out: what `EpisodeStore` gives. The work is done in threads of its own,
so nothing here blocks the loop, and no other work of the loop's executor waits for the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from memguard.episodes.embedding import Embedder
from memguard.episodes.grouping import Share
from memguard.episodes.records import Episode
from memguard.episodes.store import EpisodeStore
from memguard.errors import EpisodeStoreError

__all__ = ["AsyncEpisodeStore"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_END: Final = object()


def _awaited(
    method: Callable[Concatenate[EpisodeStore, _P], _T], *, writes: bool
) -> Callable[Concatenate[AsyncEpisodeStore, _P], Coroutine[Any, Any, _T]]:
    @functools.wraps(method)
    async def call(self: AsyncEpisodeStore, /, *args: _P.args, **words: _P.kwargs) -> _T:
        return await self._aside(functools.partial(method, self.store, *args, **words), writes=writes)

    return call


def _reads(
    method: Callable[Concatenate[EpisodeStore, _P], _T],
) -> Callable[Concatenate[AsyncEpisodeStore, _P], Coroutine[Any, Any, _T]]:
    """Make a method of a store that is awaited; signature and words stay the store's."""
    return _awaited(method, writes=False)


def _writes(
    method: Callable[Concatenate[EpisodeStore, _P], _T],
) -> Callable[Concatenate[AsyncEpisodeStore, _P], Coroutine[Any, Any, _T]]:
    """Make the same of one that writes: in the one thread that does, behind what came before."""
    return _awaited(method, writes=True)


def _each(
    method: Callable[Concatenate[EpisodeStore, _P], Iterator[_T]],
) -> Callable[Concatenate[AsyncEpisodeStore, _P], AsyncIterator[_T]]:
    """Make a method of a store for ``async for`` of one that gives one thing after the other."""

    @functools.wraps(method)
    def call(self: AsyncEpisodeStore, /, *args: _P.args, **words: _P.kwargs) -> AsyncIterator[_T]:
        return self._given(method(self.store, *args, **words))

    return call


class AsyncEpisodeStore:
    """Episodes in a folder, for coroutines. Open it with ``async with`` or `open`; use it in one loop.

    A call that is cancelled may have done its work or not; what its thread has begun it ends.

    Args:
        store: the folder, or an open store, which is then closed with this one.
        options: as of `EpisodeStore`, where a folder is given.

    Raises:
        TypeError: for options beside a store that is open already.
    """

    def __init__(self, store: EpisodeStore | str | Path, **options: Any) -> None:
        if isinstance(store, EpisodeStore):
            if options:
                raise TypeError(f"a store that is open takes no options, and was given {', '.join(options)}")
            self._store: EpisodeStore | None = store
            self._folder = store.folder
        else:
            self._store, self._folder = None, Path(store).absolute()
        self._options = options
        self._opening = asyncio.Lock()
        # One thread writes, and groups what came meanwhile; a few read.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="memguard-episodes-write")
        self._readers = ThreadPoolExecutor(4, thread_name_prefix="memguard-episodes-read")
        self._waiting: list[tuple[Share, asyncio.Future[list[str]]]] = []
        self._flush: asyncio.Task[None] | None = None
        self._closing: asyncio.Future[None] | None = None
        # Calls that somebody waits for, and what ``async for`` has begun and not ended.
        self._calls: set[asyncio.Future[None]] = set()
        self._begun: set[_Steps] = set()

    @classmethod
    async def open(cls, folder: str | Path, **options: Any) -> Self:
        """Open or make a store; options and errors as of `EpisodeStore`."""
        made = cls(folder, **options)
        await made._open()
        return made

    async def _open(self) -> None:
        async with self._opening:  # of two tasks that enter at once one opens it
            if self._store is None:
                await self._make()

    async def _make(self) -> None:
        make = functools.partial(EpisodeStore, self._folder, **self._options)
        opening = asyncio.ensure_future(asyncio.to_thread(make))
        try:
            self._store = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unwanted)
            raise

    @property
    def store(self) -> EpisodeStore:
        """What does the work.

        Raises:
            EpisodeStoreError: before it was opened.
        """
        if self._store is None:
            raise EpisodeStoreError(
                f"the store in {self._folder} is not open yet: use `async with`, or await AsyncEpisodeStore.open(...)",
                path=str(self._folder),
            )
        return self._store

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self._folder

    @property
    def embedder(self) -> Embedder | None:
        """What makes vectors of texts."""
        return self.store.embedder

    async def add_episode(self, episode: Episode) -> str:
        """As `EpisodeStore.add_episode`."""
        return (await self.add_episodes([episode]))[0]

    async def add_episodes(self, episodes: Iterable[Episode]) -> list[str]:
        """As `EpisodeStore.add_episodes`; what tasks add at the same time is written under one commit.

        A task that is cancelled meanwhile may have added or not.
        """
        with self._call():
            given = list(episodes)
            if len(self.store.parts(given)) > 1:  # memory is short
                add = functools.partial(self.store.add_episodes, given)
                return await _in_thread(self._writer, add)
            # An embedder may take long; without one it takes less than to ask a thread.
            embeds = self.store.embedder is not None and any(each.vector is None for each in given)
            prepare = functools.partial(self.store.prepared, given)
            share = Share(await _in_thread(self._readers, prepare) if embeds else prepare())
            if not share.batch:
                return []
            future: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
            self._waiting.append((share, future))
            if self._flush is None:
                self._flush = asyncio.create_task(self._write_all())
            return await future

    async def _write_all(self) -> None:
        taken: list[tuple[Share, asyncio.Future[list[str]]]] = []
        try:
            while self._waiting:
                taken, self._waiting = self._waiting, []
                shares = [share for share, _ in taken]
                try:
                    await _in_thread(self._writer, functools.partial(self.store.write_shares, shares))
                except Exception as error:  # noqa: BLE001 - each caller gets it
                    _give_error(taken, error)
                _tell(taken)
                if not self.store.debt.is_due:
                    continue
                with contextlib.suppress(EpisodeStoreError):  # it stays due, and `statistics` says so
                    await _in_thread(self._writer, self.store.pay_debts)
        finally:
            self._flush = None
            for _, future in [*taken, *self._waiting]:
                future.cancel()  # of those that were not told: this task was cancelled, with the loop
            self._waiting = []

    update = _writes(EpisodeStore.update)
    delete = _writes(EpisodeStore.delete)
    forget_old = _writes(EpisodeStore.forget_old)
    set_namespace = _writes(EpisodeStore.set_namespace)
    add_marked = _writes(EpisodeStore.add_marked)
    rebuild = _writes(EpisodeStore.rebuild)
    index = _writes(EpisodeStore.index)
    compact = _writes(EpisodeStore.compact)
    load_state_dict = _writes(EpisodeStore.load_state_dict)
    get_episode = _reads(EpisodeStore.get_episode)
    history = _reads(EpisodeStore.history)
    search_episodes_by_vector = _reads(EpisodeStore.search_episodes_by_vector)
    search_episodes_by_text = _reads(EpisodeStore.search_episodes_by_text)
    search = _reads(EpisodeStore.search)
    statistics = _reads(EpisodeStore.statistics)
    mark = _reads(EpisodeStore.mark)
    state_dict = _reads(EpisodeStore.state_dict)
    pages = _each(EpisodeStore.pages)
    check = _each(EpisodeStore.check)

    @functools.wraps(EpisodeStore.episodes)
    async def episodes(self, **words: Any) -> AsyncIterator[Episode]:
        """As `EpisodeStore.episodes`, for ``async for``; a thread is asked for a page at a time."""
        async for page in self.pages(**words):
            for episode in page:
                yield episode

    async def _given(self, found: Iterator[_T]) -> AsyncIterator[_T]:
        steps = _Steps(found)
        self._begun.add(steps)
        try:
            while (item := await self._aside(steps.next)) is not _END:
                yield item
        finally:
            # Not here: a thread may be in its midst, where this was cancelled.
            with contextlib.suppress(RuntimeError):  # shut down: who closes the store ends what was begun
                self._readers.submit(self._end_steps, steps)

    def _end_steps(self, steps: _Steps) -> None:
        steps.end()
        self._begun.discard(steps)

    async def _aside(self, act: Callable[[], _T], *, writes: bool = False) -> _T:
        with self._call():
            return await _in_thread(self._writer if writes else self._readers, act)

    @contextmanager
    def _call(self) -> Iterator[None]:
        self._check_open()
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._calls.add(ended)
        try:
            yield
        finally:
            self._calls.discard(ended)
            ended.cancel()

    def _check_open(self) -> None:
        if self._closing is not None:
            raise EpisodeStoreError(f"the store in {self._folder} was closed", path=str(self._folder))

    async def close(self) -> None:
        """Wait for the calls that were made before, and close the store; later ones are refused.

        A loop over episodes that was begun and not ended finds the store closed.
        """
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._end())
        await asyncio.shield(self._closing)

    async def _end(self) -> None:
        is_idle = False
        try:
            while waited := [*self._calls, *([self._flush] if self._flush is not None else [])]:
                await asyncio.wait(waited)
            await _in_thread(self._writer, self._let_go)
            is_idle = True
        except asyncio.CancelledError:
            self._writer.submit(self._let_go)  # with the loop, whose threads go on: twice does no harm
            raise
        finally:
            self._writer.shutdown(wait=is_idle)  # with nothing to do it ends at once

    def _let_go(self) -> None:
        self._readers.shutdown()
        while self._begun:
            self._begun.pop().end()
        if self._store is not None:
            self._store.close()

    async def __aenter__(self) -> Self:
        self._check_open()
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _in_thread(executor: ThreadPoolExecutor, act: Callable[[], _T]) -> _T:
    return await asyncio.get_running_loop().run_in_executor(executor, act)


class _Steps:
    """An iterator whose steps threads make, one at a time."""

    def __init__(self, found: Iterator[Any]) -> None:
        self._found, self._lock = found, threading.Lock()

    def next(self) -> Any:
        with self._lock:
            return next(self._found, _END)

    def end(self) -> None:
        close = getattr(self._found, "close", None)
        if close is not None:
            with self._lock:
                close()


def _close_unwanted(opening: asyncio.Future[EpisodeStore]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


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
