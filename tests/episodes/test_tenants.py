"""Namespaces are tenants: none starves another of disk, of the cache, or of its turn to write."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.episodes import Episode, EpisodeStore
from memguard.episodes.grouping import Share
from memguard.episodes.turns import Line
from memguard.errors import CapacityExceeded
from tests.support.episodes import episode


@dataclass(eq=False)
class Wish:
    """What a tenant wants written."""

    tenant: str
    count: int


def served(line: Line[Wish]) -> list[Wish]:
    """Let all go, in turn."""
    order = []
    while line:
        order.append(line.first())
        line.take(order[-1])
    return order


@pytest.mark.requirement("E13")
@given(st.lists(st.builds(Wish, st.sampled_from("abc"), st.integers(1, 1000)), max_size=40))
def test_all_are_served_each_tenant_in_his_order(wishes: list[Wish]) -> None:
    """Everybody's turn comes once, and nobody is served before what the same tenant wanted earlier."""
    line: Line[Wish] = Line()
    for each in wishes:
        line.append(each)
    order = served(line)
    for tenant in "abc":
        assert [each for each in order if each.tenant == tenant] == [
            each for each in wishes if each.tenant == tenant
        ]


@pytest.mark.requirement("E13")
@given(crowd=st.integers(10, 500), size=st.integers(1, 400), late=st.integers(1, 256))
def test_a_crowd_delays_another_by_a_round(crowd: int, size: int, late: int) -> None:
    """Behind any number of adds of one tenant another's first one waits for one round and one batch, no more."""
    line: Line[Wish] = Line()
    for _ in range(crowd):
        line.append(Wish("noisy", size))
    quiet = Wish("quiet", late)
    line.append(quiet)
    order = served(line)
    before = order[: order.index(quiet)]
    assert sum(each.count for each in before) <= 256 + size
    assert len(order) == crowd + 1


@pytest.mark.requirement("E13")
def test_who_gives_up_is_not_waited_for() -> None:
    """Who is removed before his turn comes leaves the others in their order."""
    line: Line[Wish] = Line()
    wishes = [Wish("a", 300), Wish("a", 1), Wish("b", 1)]
    for each in wishes:
        line.append(each)
    assert wishes[0] in line
    line.remove(wishes[0])
    assert wishes[0] not in line
    assert sorted(each.tenant for each in served(line)) == ["a", "b"]


@pytest.mark.requirement("E13")
def test_an_add_waits_for_one_commit_behind_a_noisy_tenant(tmp_path: Path) -> None:
    """While hundreds of large adds of one namespace wait, a single one of another is written with the next commit."""
    commits: list[list[str]] = []
    with EpisodeStore(tmp_path / "store") as store:
        entered, go_on = threading.Event(), threading.Event()

        def write(shares: list[Share]) -> None:
            commits.append([each.tenant for each in shares])
            if len(commits) == 1:
                entered.set()
                assert go_on.wait(30)
            store.write_shares(shares)

        def add(tenant: str, count: int) -> None:
            batch = store.prepared(episode(number, namespace=tenant) for number in range(count))
            store._group.add(batch, write)  # type: ignore[arg-type]

        threads = [threading.Thread(target=add, args=("noisy", 1500)) for _ in range(9)]
        threads[0].start()
        assert entered.wait(30)
        for each in threads[1:]:
            each.start()
        while sum(len(line) for line in store._group._waiting._tenants.values()) < 8:
            threading.Event().wait(0.001)
        quiet = threading.Thread(target=add, args=("quiet", 1))
        quiet.start()
        while "quiet" not in store._group._waiting._tenants:
            threading.Event().wait(0.001)
        go_on.set()
        for each in (*threads, quiet):
            each.join()
        assert "quiet" in commits[1]
        assert len(commits) >= 3
        assert len(store) == 9 * 1500 + 1


@pytest.mark.requirement("E13")
def test_a_noisy_tenant_does_not_empty_anothers_cache(tmp_path: Path) -> None:
    """One that reads thousands of episodes leaves another's recent ones in the cache, up to an equal share."""
    with EpisodeStore(tmp_path / "store", cache_entries=40) as store:
        quiet = store.add_episodes(episode(number, namespace="quiet") for number in range(20))
        noisy = store.add_episodes(episode(number, namespace="noisy") for number in range(400))
        for each in (*quiet, *noisy):
            store.get_episode(each)
        before = store.statistics()
        for each in quiet:
            store.get_episode(each)
        after = store.statistics()
        assert (after.cache_hits - before.cache_hits, after.cache_misses - before.cache_misses) == (20, 0)
        assert after.cache_hit_rate == 20 / 440


@pytest.mark.requirement("E13")
def test_a_full_tenant_is_told_what_to_do_and_bars_nobody_else(tmp_path: Path) -> None:
    """Over its budget a namespace is refused with sizes and the next step; others add on, also in the same commit."""
    with EpisodeStore(tmp_path / "store") as store:
        store.set_namespace("full", budget=1000)
        store.set_namespace("other", budget="1MiB")
        first = store.add_episode(Episode(text="x" * 900, namespace="full"))
        shares = [
            Share(store.prepared([Episode(text="y" * 200, namespace="full")])),
            Share(store.prepared([Episode(text="z" * 200, namespace="other")])),
        ]
        store.write_shares(shares)
        error = shares[0].error
        assert isinstance(error, CapacityExceeded)
        assert (error.capacity_bytes, error.limited_by) == (1000, "namespace full")
        assert "set_namespace('full', budget=...)" in str(error)
        assert shares[1].ids is not None
        store.delete(first, purge=True)
        store.add_episode(Episode(text="y" * 200, namespace="full"))
