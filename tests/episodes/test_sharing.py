"""Many threads and processes use one store: nothing acknowledged is lost, nothing is there twice, nobody waits for ever."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from memguard.episodes import AsyncEpisodeStore, Episode, EpisodeStore, database, vectors, writing
from memguard.episodes.grouping import Share
from memguard.errors import EpisodeInvalid, EpisodeStoreBusy, EpisodeStoreError
from tests.support.dying import deaths
from tests.support.episodes import episode

ROOT = Path(__file__).resolve().parents[2]
WRITER = """
import sys
from memguard.episodes import EpisodeStore
from tests.support.episodes import episode
who = int(sys.argv[2])
with EpisodeStore(sys.argv[1]) as store:
    for batch in range(10):
        first = 10_000 * who + 100 * batch
        print(*store.add_episodes(episode(number, namespace=f"n{who % 2}") for number in range(first, first + 100)))
"""


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


@pytest.mark.requirement("E8", "E14")
def test_four_processes_at_once(tmp_path: Path) -> None:
    """Batches of four processes are all there, each whole and in its order, and a reader sees no half batch meanwhile."""
    writers = [start(WRITER, tmp_path / "store", who) for who in range(4)]
    with EpisodeStore(tmp_path / "store") as store:
        while any(each.poll() is None for each in writers):
            assert len(store) % 100 == 0
        told = [each.communicate()[0].split() for each in writers]
        assert [each.returncode for each in writers] == [0] * 4
        assert sorted(each for ids in told for each in ids) == sorted(each.id for each in store.episodes())
        for who, ids in enumerate(told):
            numbers = [store.get_episode(each).metadata["number"] for each in (ids[0], ids[500], ids[999])]
            assert numbers == [10_000 * who, 10_000 * who + 500, 10_000 * who + 999]
        assert not list(store.check())


@pytest.mark.requirement("E8")
def test_adds_of_many_threads_share_commits(tmp_path: Path) -> None:
    """Each of 32 threads gets its own ids; a bad add fails its caller alone; there are fewer commits than adds."""
    ids: list[str] = []
    errors: list[Exception] = []

    def work(number: int) -> None:
        for each in range(20):
            ids.append(store.add_episode(episode(100 * number + each)))
            try:
                store.add_episode(episode(1, vector=[1.0]))
            except EpisodeInvalid as error:
                errors.append(error)

    with EpisodeStore(tmp_path / "store") as store:
        store.add_episode(episode(0))
        threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert (len(ids), len(set(ids)), len(errors), len(store)) == (640, 640, 640, 641)
        moments = {store.get_episode(each).noted_at_s for each in ids}
        assert len(moments) < 640


def test_tasks_share_commits_too(tmp_path: Path) -> None:
    """Hundreds of coroutines add at once; a bad add fails its own task; what was added is found and iterated."""

    async def work() -> None:
        async with await AsyncEpisodeStore.open(tmp_path / "store") as store:
            adds = [store.add_episode(episode(number)) for number in range(300)]
            bad = [store.add_episode(episode(1, kind="")) for _ in range(3)]
            made = await asyncio.gather(*adds, *bad, return_exceptions=True)
            assert [type(each) for each in made[300:]] == [EpisodeInvalid] * 3
            ids = made[:300]
            assert len(set(ids)) == 300
            assert [each.id async for each in store.episodes()] == ids
            hit, *_ = await store.search_episodes_by_text("7", 1)
            assert hit.episode.metadata["number"] == 7
            assert (await store.search_episodes_by_vector(episode(7).vector, 1))[0].id == hit.id
            assert (await store.search("7", episode(7).vector, 1))[0].id == hit.id
            assert await store.update(hit.id, text="new") == 2
            assert (await store.get_episode(hit.id)).text == "new"
            await store.delete(hit.id)
            assert [change.what for change in await store.history(hit.id)] == ["added", "updated", "deleted"]
            assert (await store.statistics()).episodes == 299

    asyncio.run(work())
    assert not [each for each in threading.enumerate() if "memguard-episodes" in each.name]


@pytest.mark.requirement("E8")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_parent_and_forked_child_use_one_object(tmp_path: Path) -> None:
    """After a fork both go on reading and adding, with connections and locks of their own."""
    with EpisodeStore(tmp_path / "store") as store:
        first = store.add_episode(episode(0))
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                assert store.get_episode(first).metadata["number"] == 0
                store.add_episodes(episode(number) for number in range(400))
                status = 0
            finally:
                os._exit(status)
        store.add_episodes(episode(number) for number in range(400))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert len(store) == 801
        assert not list(store.check())


@pytest.mark.requirement("E8", "E14")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_what_a_child_adds_outlives_its_parents_store(tmp_path: Path) -> None:
    """A forked child goes on adding while its parent closes the store: what it was acknowledged is there for others."""
    store = EpisodeStore(tmp_path / "store")
    store.add_episodes(episode(number, id=f"p{number}") for number in range(3))
    (child_reads, parent_tells), (parent_reads, child_tells) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            store.add_episode(episode(0, id="c0"))
            os.write(child_tells, b"1")
            os.read(child_reads, 1)
            for number in range(1, 4):
                store.add_episode(episode(number, id=f"c{number}"))
            with EpisodeStore(tmp_path / "store") as second:
                second.add_episode(episode(4, id="c4"))
            status = 0
        finally:
            os._exit(status)
    os.read(parent_reads, 1)
    store.close()
    os.write(parent_tells, b"1")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for each in (child_reads, parent_tells, parent_reads, child_tells):
        os.close(each)
    with EpisodeStore(tmp_path / "store") as reader:
        assert sorted(each.id for each in reader.episodes()) == [
            *(f"c{number}" for number in range(5)), *(f"p{number}" for number in range(3))
        ]  # fmt: skip
        assert list(reader.check()) == []


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_in_the_midst_of_a_use_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child cannot use the store, nor open it anew, and says why; the parent goes on."""
    monkeypatch.setattr(database, "_FORK_WAIT_S", 0.05)
    with EpisodeStore(tmp_path / "store") as store:
        store.add_episode(episode(1))
        with store._look():
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    for act in (lambda: len(store), lambda: EpisodeStore(tmp_path / "store")):
                        with pytest.raises(EpisodeStoreError, match="when this process was forked"):
                            act()
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        store.add_episode(episode(2))
        assert len(store) == 2


def test_an_interrupt_of_who_waits_keeps_nobody_waiting(tmp_path: Path) -> None:
    """A caller that is interrupted while another writes leaves the line; the others, and those after them, are written."""
    with EpisodeStore(tmp_path / "store") as store:
        entered, go_on = threading.Event(), threading.Event()

        def slowly(shares: list[Share]) -> None:
            entered.set()
            go_on.wait()
            store.write_shares(shares)

        leader = threading.Thread(target=lambda: store._group.add(store.prepared([episode(1)]), slowly))
        leader.start()
        entered.wait()
        follower = Share(store.prepared([episode(2)]))
        store._group._join(follower)  # as one that waits
        store._group._leave(follower)  # as one that is interrupted
        go_on.set()
        leader.join()
        store.add_episode(episode(3))
        assert [each.metadata["number"] for each in store.episodes()] == [1, 3]


def test_caches_are_given_back_while_others_read_and_write(tmp_path: Path) -> None:
    """Shedding meets no connection that is in use."""
    with EpisodeStore(tmp_path / "store") as store:
        ids = store.add_episodes(episode(number) for number in range(50))
        stop, errors = threading.Event(), []

        def work() -> None:
            try:
                while not stop.is_set():
                    store.get_episode(ids[7])
                    store.add_episode(episode(1))
            except Exception as error:  # noqa: BLE001 - told below
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for each in threads:
            each.start()
        for _ in range(3000):
            store.shed(1)
        stop.set()
        for each in threads:
            each.join()
        assert errors == []


HOLDER = """
import sys
from memguard.episodes import EpisodeStore
store = EpisodeStore(sys.argv[1])
with store._database.transaction():
    print("holds", flush=True)
    sys.stdin.read()
"""


def test_a_writer_that_is_stopped_is_named(tmp_path: Path) -> None:
    """Who waits for it is told its pid and loses nothing; nobody waits to open, read or close; when it is gone, adds go on."""
    holder = start(HOLDER, tmp_path / "store")
    assert holder.stdout is not None
    assert holder.stdout.readline() == "holds\n"
    with EpisodeStore(tmp_path / "store", read_only=True) as reader:
        assert len(reader) == 0
    with EpisodeStore(tmp_path / "store", write_wait_s=0.2) as store:
        assert len(store) == 0
        with pytest.raises(
            EpisodeStoreBusy, match=rf"process {holder.pid} was writing to .* for more than 0.2 s"
        ):
            store.add_episode(episode(1))
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with EpisodeStore(tmp_path / "store", write_wait_s=30) as store:
        store.add_episode(episode(1))
        assert len(store) == 1


class Slow:
    """An embedder that waits to be let go on."""

    name, dimension = "slow", 3

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if "slow" in texts:
            self.begun.set()
            self.go_on.wait()
        return np.asarray([[len(text), 1, 1] for text in texts], np.float32)


def test_an_update_keeps_nobody_waiting_while_it_embeds(tmp_path: Path) -> None:
    """Others add and change meanwhile; the update is made of what the episode is then, and loses nothing of it."""
    embedder = Slow()
    with EpisodeStore(tmp_path / "store", embedder=embedder, write_wait_s=0.2) as store:
        store.add_episode(Episode(text="quick", id="a", metadata={"k": 1}))
        updating = threading.Thread(target=store.update, args=("a",), kwargs={"text": "slow"})
        updating.start()
        embedder.begun.wait()
        store.add_episode(Episode(text="other", id="b"))
        assert store.update("a", metadata={"k": 2}) == 2
        embedder.go_on.set()
        updating.join()
        now = store.get_episode("a")
        assert (now.version, now.text, now.metadata) == (3, "slow", {"k": 2})
        assert np.asarray(now.vector).tolist() == [4, 1, 1]


def test_a_store_is_closed_under_its_users(tmp_path: Path) -> None:
    """Threads that add, read and search while it is closed are told so, and nothing else befalls them."""
    store = EpisodeStore(tmp_path / "store")
    ids = store.add_episodes(episode(number) for number in range(600))
    errors: list[BaseException] = []
    begun = threading.Barrier(5)

    def work(act: Callable[[], object]) -> None:
        act()
        begun.wait()
        try:
            while True:
                act()
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)

    acts = (
        lambda: store.add_episode(episode(1)),
        lambda: store.get_episode(ids[7], version=1),
        lambda: store.search_episodes_by_vector(episode(9).vector),
        lambda: store.history(ids[9]),
    )
    threads = [threading.Thread(target=work, args=(act,)) for act in acts]
    for each in threads:
        each.start()
    begun.wait()
    store.close()
    for each in threads:
        each.join()
    assert [(type(error), "was closed" in str(error)) for error in errors] == [(EpisodeStoreError, True)] * 4
    with EpisodeStore(tmp_path / "store") as again:
        assert not list(again.check())


@pytest.mark.requirement("E14", "E7")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.heavy)])
def test_death_at_any_line_leaves_whole_adds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Killed at any line of what writes, an add is there whole or not at all, and what was acknowledged before stays."""
    path = tmp_path / "store"
    monkeypatch.setattr(writing, "MOST_UNFILED", 3)
    EpisodeStore(path).close()
    acknowledged, told = os.pipe()

    def work(begin: object) -> None:
        store = EpisodeStore(path)
        begin()  # type: ignore[operator]
        one = store.add_episode(episode(1))
        os.write(told, b"1")
        store.add_episodes(episode(number) for number in range(4))
        os.write(told, b"2")
        store.update(one, text="changed")
        os.write(told, b"3")
        store.delete(one)
        os.write(told, b"4")
        store.close()
        os.write(told, b"5")

    os.set_blocking(acknowledged, False)
    before = deaths_seen = 0
    for _, pid in deaths(work, writing, vectors, step=step):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        try:
            done = int(os.read(acknowledged, 10)[-1:] or b"0")
        except BlockingIOError:
            done = 0
        with EpisodeStore(path, cache_entries=0) as store:
            figures = store.statistics()
            grown = figures.episodes - before
            if done in (0, 1, 2, 3):
                # What was being done when it died is there or not.
                assert grown in {0: (0, 1), 1: (1, 5), 2: (5,), 3: (5, 4)}[done]
            else:
                assert grown == 4
            before = figures.episodes
            deaths_seen += 1
            if deaths_seen % 25 == 0:
                assert not list(store.check())
    os.close(acknowledged)
    os.close(told)
    assert deaths_seen * step > 100


def test_an_interrupt_of_one_caller_lets_the_others_go_on(tmp_path: Path) -> None:
    """A Ctrl-C while a commit is under way reaches its caller, and the next one writes."""
    with EpisodeStore(tmp_path / "store") as store:
        store.add_episode(Episode())

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store._group.add(store.prepared([Episode()]), interrupted)
        store.add_episode(Episode())
        assert len(store) == 2
