"""Memory is looked at before every add: what cannot be had is refused with sizes, what can be in parts goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import memguard
from memguard import MemoryManager
from memguard.episodes import AsyncEpisodeStore, Episode, EpisodeStore
from memguard.episodes.affording import SMALL_BYTES, Affording, needed_bytes, room_here
from memguard.errors import CapacityExceeded, EpisodeConflict
from memguard.host import peak_resident_bytes_now
from memguard.memory.rooms import least_room, offer_room
from memguard.units import MIB
from tests.support.episodes import episode
from tests.support.guarded import by_value

by_value(__name__)


class Tensor:
    """A vector as other libraries have them: its size is a method."""

    def __init__(self, values: Sequence[float]) -> None:
        self._values = values

    def size(self) -> tuple[int, ...]:
        return (len(self._values),)

    def __len__(self) -> int:
        return len(self._values)

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return np.array(self._values, np.float32)


@pytest.mark.parametrize("count", [1, 3])
def test_tensors_are_taken(tmp_path: Path, count: int) -> None:
    """One alone and several; what they need is reckoned by their length."""
    made = [Episode(vector=Tensor([1.0, 2.0 + number])) for number in range(count)]
    with EpisodeStore(tmp_path / "store") as store:
        ids = store.add_episodes(made)
        assert [list(np.asarray(store.get_episode(each).vector)) for each in ids] == [
            [1.0, 2.0 + number] for number in range(count)
        ]
    assert needed_bytes(made[0]) == needed_bytes(Episode(vector=[1.0, 2.0]))


def limited(store: EpisodeStore, *rooms: int) -> list[int]:
    """Let a store see so much room, one after the other, the last for ever; returns what it had given back."""
    seen, asked = list(rooms), list[int]()
    store._affording = Affording(
        lambda: (seen.pop(0) if len(seen) > 1 else seen[0], "the test"), asked.append
    )
    return asked


@pytest.mark.requirement("E5")
@given(sizes=st.lists(st.integers(1, 3 * MIB), min_size=1, max_size=20), room=st.integers(0, 8 * MIB))
def test_parts_have_all_in_order_and_each_fits(sizes: list[int], room: int) -> None:
    """Parts are the episodes in their order; each is within half of the room, within a MiB, or a single episode."""
    episodes = [Episode(text="x" * (size // 4)) for size in sizes]
    needs = list(map(needed_bytes, episodes))
    affording = Affording(lambda: (room, "the test"), lambda _: None)
    if sum(needs) > max(SMALL_BYTES, room) and max(needs) > max(SMALL_BYTES, room):
        with pytest.raises(CapacityExceeded):
            affording.parts(episodes)
        return
    parts = affording.parts(episodes)
    assert [each for part in parts for each in part] == episodes
    assert all(parts)
    if len(parts) > 1:
        for part in parts:
            assert len(part) == 1 or sum(map(needed_bytes, part)) <= max(SMALL_BYTES, room // 2)


@pytest.mark.requirement("E5")
def test_what_cannot_be_afforded_is_refused_whole(tmp_path: Path) -> None:
    """An episode too large for the room is refused with sizes, bound and remedy; nothing of its batch is stored."""
    with EpisodeStore(tmp_path / "store") as store:
        limited(store, 2 * MIB)
        batch = [Episode(text="small"), Episode(text="x" * 4 * MIB)]
        with pytest.raises(
            CapacityExceeded, match=r"episode 2 of 2 takes about 16 MiB.*2 MiB are left of the test"
        ) as caught:
            store.add_episodes(batch)
        assert (caught.value.capacity_bytes, caught.value.limited_by) == (2 * MIB, "the test")
        assert "nothing was stored" in str(caught.value)
        assert isinstance(caught.value, MemoryError)
        assert len(store) == 0
        with pytest.raises(CapacityExceeded, match="nothing was stored"):
            store.update(store.add_episode(Episode(text="kept")), text="x" * 4 * MIB)
        assert [each.text for each in store.episodes()] == ["kept"]


@pytest.mark.requirement("E5")
def test_under_pressure_adds_go_on_in_parts(tmp_path: Path) -> None:
    """Where there is room for a tenth of a batch it is written in parts, under one commit, the same as at once."""
    batch = [episode(number, id=f"e{number}") for number in range(4000)]
    with EpisodeStore(tmp_path / "whole") as whole, EpisodeStore(tmp_path / "parts") as parts:
        whole.add_episodes(batch)
        asked = limited(parts, 0)
        assert parts.add_episodes(batch) == [each.id for each in batch]
        assert asked, "the caches were to be given back first"
        assert list(parts.episodes(with_vectors=True)) == list(whole.episodes(with_vectors=True))
        assert not list(parts.check())
        hits = parts.search_episodes_by_vector(batch[7].vector, 1)  # type: ignore[arg-type]
        assert hits[0].id == "e7"
        with pytest.raises(EpisodeConflict):
            parts.add_episodes([*(episode(number) for number in range(4000)), Episode(text="other", id="e7")])
        assert len(parts) == 4000
        assert not list(parts.check())


@pytest.mark.requirement("E5")
def test_what_caches_give_back_is_room(tmp_path: Path) -> None:
    """Caches are asked only where there is too little room, for what is lacking; then the batch is written at once."""
    with EpisodeStore(tmp_path / "store") as store:
        asked = limited(store, 1 * MIB, 64 * MIB)
        batch = [Episode(text="x" * MIB)]
        need = needed_bytes(batch[0])
        store.add_episodes(batch)
        assert asked == [need - MIB]
        store.add_episode(Episode(text="small"))
        assert asked == [need - MIB]


@pytest.mark.requirement("E5")
def test_a_task_is_refused_alike(tmp_path: Path) -> None:
    """The asynchronous store refuses what memory does not allow for, and writes in parts what it does."""

    async def add(batch: Sequence[Episode]) -> int:
        async with await AsyncEpisodeStore.open(tmp_path / "store") as store:
            limited(store.store, 0)
            return len(await store.add_episodes(batch))

    assert asyncio.run(add([Episode(text="x" * 200_000) for _ in range(10)])) == 10
    with pytest.raises(CapacityExceeded, match="nothing was stored"):
        asyncio.run(add([Episode(text="x" * MIB)]))


@pytest.mark.requirement("E5")
def test_a_block_around_it_bounds_it(tmp_path: Path) -> None:
    """Inside a managed block an add is held to what the block has left; outside of it to the machine alone."""
    with EpisodeStore(tmp_path / "store") as store, MemoryManager("1GiB") as manager:
        with manager.managed_processing("small", memory="16MiB"):
            assert room_here()[0] <= 16 * MIB
            with pytest.raises(CapacityExceeded, match="left of the budget of small"):
                store.add_episode(Episode(text="x" * 8 * MIB))
        assert least_room() is None
        store.add_episode(Episode(text="x" * 8 * MIB))


def add_in_a_job(folder: str, mib: int) -> str:
    """Add a text of so many MiB inside a job; return how that went."""
    with EpisodeStore(folder, max_text_bytes="64MiB") as store:
        try:
            store.add_episode(Episode(text="x" * (mib * MIB)))
        except memguard.CapacityExceeded as error:
            return str(error)
        return "stored"


@pytest.mark.requirement("E5")
def test_a_job_around_it_bounds_it(tmp_path: Path) -> None:
    """In a guarded job an add that its budget has no room for is refused, and the job is not killed for it."""
    with MemoryManager("2GiB") as manager:
        told = manager.run(add_in_a_job, str(tmp_path / "store"), 32, memory="128MiB", name="tight").value
        assert "left of the budget of job tight" in told
        assert manager.run(add_in_a_job, str(tmp_path / "store"), 1, memory="128MiB").value == "stored"


def test_of_several_rooms_the_smallest_counts() -> None:
    """The room that has least left is told, with its name, until it is withdrawn."""
    large, small = offer_room("large", lambda: 100), offer_room("small", lambda: 10)
    assert least_room() == (10, "small")
    small()
    small()
    assert least_room() == (100, "large")
    large()
    assert least_room() is None


@pytest.mark.requirement("E5")
def test_what_is_reckoned_covers_what_is_taken(tmp_path: Path) -> None:
    """The high-water mark of a process rises by no more than was reckoned when it adds what it never added before."""
    with EpisodeStore(tmp_path / "store", cache_entries=0) as store:
        store.add_episodes(
            episode(number) for number in range(2000)
        )  # SQLite's caches and the engine are there now
        vectors = np.random.default_rng(0).standard_normal((8000, 384)).astype(np.float32)
        batch = [Episode(text=f"{at} 忘却", vector=vectors[at], namespace="b") for at in range(len(vectors))]
        need = sum(map(needed_bytes, batch))
        before = peak_resident_bytes_now()
        store.add_episodes(batch)
        assert peak_resident_bytes_now() - before <= need
