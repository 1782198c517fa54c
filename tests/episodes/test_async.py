"""The store for coroutines: what the other has it has, and it ends whatever is going on."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from memguard.episodes import AsyncEpisodeStore, Episode, EpisodeStore
from memguard.errors import EpisodeMissing, EpisodeStoreError

# Of the machinery: not for who keeps episodes.
INNER = {
    "fill_caches",
    "parts",
    "pay_debts",
    "prepared",
    "write_shares",
    "renew_locks",
    "name",
    "held_bytes",
    "shed",
}


def public(kind: type) -> dict[str, Any]:
    found = {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}
    return {name: each for name, each in found.items() if callable(each) and name not in INNER}


def test_it_has_the_same_methods() -> None:
    """Each public method of the store, with the same parameters and the same defaults."""
    ours = public(AsyncEpisodeStore)
    assert set(ours) - {"open"} == set(public(EpisodeStore))
    for name, method in public(EpisodeStore).items():
        mine = inspect.signature(ours[name]).parameters.values()
        wanted = inspect.signature(method).parameters.values()
        assert [(each.name, each.kind, each.default) for each in mine] == [
            (each.name, each.kind, each.default) for each in wanted
        ], name
        assert ours[name].__doc__, name


def test_a_folder_is_opened_with_the_block_and_closed_with_it(tmp_path: Path) -> None:
    """As the other store is made; before and behind the block it says what is wrong."""

    async def live() -> None:
        closed = AsyncEpisodeStore(tmp_path / "store", cache_entries=0)
        assert closed.folder == tmp_path / "store"
        with pytest.raises(EpisodeStoreError, match="is not open yet: use `async with`"):
            await closed.add_episode(Episode(text="too early"))
        async with closed as store:
            ids = await asyncio.gather(*(store.add_episode(Episode(text=f"note {at}")) for at in range(20)))
            async with AsyncEpisodeStore(tmp_path / "store", read_only=True) as other:
                assert {(await other.get_episode(each)).text for each in ids} == {
                    f"note {at}" for at in range(20)
                }
        with pytest.raises(EpisodeStoreError, match="was closed"):
            await store.add_episode(Episode(text="too late"))
        with pytest.raises(EpisodeStoreError, match="was closed"):
            await closed.__aenter__()
        never = AsyncEpisodeStore(tmp_path / "never")
        await never.close()

    asyncio.run(live())
    assert not (tmp_path / "never").exists()


def test_two_tasks_that_enter_at_once_open_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the second would open nobody would close."""
    made = list[EpisodeStore]()
    begin = EpisodeStore._begin

    def counted(self: EpisodeStore) -> None:
        made.append(self)
        begin(self)

    monkeypatch.setattr(EpisodeStore, "_begin", counted)

    async def live() -> None:
        store = AsyncEpisodeStore(tmp_path / "store")
        assert await asyncio.gather(store.__aenter__(), store.__aenter__()) == [store, store]
        await store.close()

    asyncio.run(live())
    assert len(made) == 1


def test_options_are_of_a_store_that_is_made_here(tmp_path: Path) -> None:
    """An open store has its own."""
    with EpisodeStore(tmp_path / "store") as store, pytest.raises(TypeError, match="cache_entries"):
        AsyncEpisodeStore(store, cache_entries=1)


def test_everything_can_be_awaited(tmp_path: Path) -> None:
    """A life of a store, each method once."""

    async def live() -> None:
        async with await AsyncEpisodeStore.open(tmp_path / "store") as store:
            await store.set_namespace("default", budget="1GiB")
            first = await store.add_episode(Episode(text="the first", vector=[1.0, 2.0]))
            second, third = await store.add_episodes([Episode(text="second"), Episode(text="third")])
            assert await store.update(first, text="the first again") == 2
            assert [each.version for each in await store.history(first)] == [1, 2]
            await store.add_marked([Episode(text="marked")], "mark", "5")
            assert await store.mark("mark") == "5"
            await store.index()
            await store.load_state_dict(await store.state_dict())
            assert (await store.search_episodes_by_text("again"))[0].id == first
            assert (await store.search_episodes_by_vector([1.0, 2.0], exact=True))[0].id == first
            assert (await store.search("third", [1.0, 2.0]))[0].id in (first, third)
            await store.delete(second)
            with pytest.raises(EpisodeMissing):
                await store.get_episode(second)
            assert sorted([each.text async for each in store.episodes()]) == [
                "marked",
                "the first again",
                "third",
            ]
            assert [len(page) async for page in store.pages(kind="note")] == [3]
            await store.rebuild()
            await store.compact()
            assert [each async for each in store.check()] == []
            assert (await store.statistics()).episodes == 3
            assert (store.folder, store.embedder) == (tmp_path / "store", None)

    asyncio.run(live())
    assert ours() == []


def ours() -> list[str]:
    gc.collect()
    return [each.name for each in threading.enumerate() if each.name.startswith("memguard-episodes")]


class Gated:
    """An embedder that waits until it is let go, as one that takes long."""

    name, dimension = "gated", 2

    def __init__(self) -> None:
        self.is_at, self.go = threading.Event(), threading.Event()

    def embed(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        self.is_at.set()
        assert self.go.wait(60)
        return np.ones((len(texts), 2), np.float32)


@pytest.mark.parametrize("act", ["search", "add"])
def test_closing_waits_for_what_was_begun(tmp_path: Path, act: str) -> None:
    """A search and an add that are under way as the store is closed end well; later ones are refused with the reason."""
    gated = Gated()

    async def live() -> None:
        store = await AsyncEpisodeStore.open(tmp_path / "store", embedder=gated)
        await store.set_namespace("default", embedder="gated")
        await store.add_episode(Episode(text="found", vector=[1.0, 1.0]))
        begun = asyncio.ensure_future(
            store.search("found") if act == "search" else store.add_episode(Episode(text="x"))
        )
        await asyncio.to_thread(gated.is_at.wait, 60)
        closing = asyncio.ensure_future(store.close())
        await asyncio.sleep(0)
        for refused in (store.add_episode(Episode(text="late")), store.search("late"), store.compact()):
            with pytest.raises(EpisodeStoreError, match="was closed"):
                await refused
        assert not closing.done()
        gated.go.set()
        assert len(await begun) == (1 if act == "search" else 36)
        await closing
        await store.close()
        with pytest.raises(EpisodeStoreError, match="was closed"):
            await store.statistics()

    asyncio.run(live())
    assert ours() == []
    with EpisodeStore(tmp_path / "store") as store:
        assert len(store) == (1 if act == "search" else 2)


def test_a_loop_that_was_left_holds_nothing(tmp_path: Path) -> None:
    """What ``async for`` has begun is ended with the store, whether it was left or is still in use."""

    async def live() -> None:
        store = await AsyncEpisodeStore.open(tmp_path / "store")
        await store.add_episodes(Episode(text=str(number)) for number in range(600))
        left, used = store.episodes(), store.check()
        async for _ in left:
            break
        pages = store.pages()
        await anext(pages)
        await store.close()
        with pytest.raises(EpisodeStoreError, match="was closed"):
            await anext(pages)
        with pytest.raises(EpisodeStoreError, match="was closed"):
            await anext(used)

    asyncio.run(live())
    assert ours() == []


@pytest.mark.parametrize("moment", ["opening", "adding", "searching", "closing"])
def test_a_loop_that_ends_early_leaves_no_thread(tmp_path: Path, moment: str) -> None:
    """Cancelled at any of these moments, with the loop, it hangs nowhere, and the store can be opened again."""
    gated = Gated()
    EpisodeStore(tmp_path / "store").close()

    async def live() -> None:
        opening = asyncio.ensure_future(AsyncEpisodeStore.open(tmp_path / "store", embedder=gated))
        if moment == "opening":
            await asyncio.sleep(0)
            return
        store = await opening
        await store.add_episode(Episode(text="there", vector=[1.0, 2.0]))
        adding = asyncio.ensure_future(store.add_episode(Episode(text="x", vector=[1.0, 2.0])))
        await asyncio.sleep(0)
        if moment == "adding":
            return
        searching = asyncio.ensure_future(store.search("there"))
        await asyncio.to_thread(gated.is_at.wait, 60)
        if moment == "closing":
            asyncio.ensure_future(store.close())  # noqa: RUF006 - it is to be cancelled
            await asyncio.sleep(0)
        gated.go.set()
        del adding, searching

    asyncio.run(live())
    for each in threading.enumerate():
        if each.name.startswith("memguard-episodes"):
            each.join(60)
    with EpisodeStore(tmp_path / "store") as store:
        assert len(store) <= 2


def test_one_who_waits_and_is_cancelled_stops_nobody(tmp_path: Path) -> None:
    """Of a hundred adds at once half are cancelled; the others are there, and told so."""

    async def live() -> list[str]:
        async with await AsyncEpisodeStore.open(tmp_path / "store") as store:
            adds = [
                asyncio.ensure_future(store.add_episode(Episode(text=str(number)))) for number in range(100)
            ]
            await asyncio.sleep(0)
            for each in adds[::2]:
                each.cancel()
            told = await asyncio.gather(*adds, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in told[::2])
            return [str(each) for each in told[1::2]]

    ids = asyncio.run(live())
    with EpisodeStore(tmp_path / "store") as store:
        assert all(store.get_episode(each) for each in ids)
