"""A store under the guard: its lease in the ledger of all jobs, its caches given back when memory is short."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memguard import MemoryManager
from memguard.config import Settings, load_settings
from memguard.episodes import Episode, EpisodeStore, holding
from memguard.guard.pools import pool_steps
from memguard.guard.pressure import Pressure
from memguard.guard.rungs import Job
from memguard.host.readings import ProcessIdentity
from memguard.ledger.admission import admitted, free_bytes
from memguard.ledger.board import Ask, Entry
from memguard.ledger.book import LedgerBook, Wish
from memguard.ledger.place import ledger_folder
from memguard.ledger.records import POOL_PREFIX, Lease, Room
from memguard.ledger.room import room_for
from memguard.memory import shed_all
from memguard.units import MIB
from tests.support.forks import FORKS_BESIDE_THREADS
from tests.support.guarded import by_value, eventually
from tests.support.pens import pen

by_value(__name__)
ROOT = Path(__file__).resolve().parents[2]
OWNER = ProcessIdentity("here", "boot", 1, 1)

# Fills the caches of a store, says what it is told to.
FILLED = """
import sys
from memguard.config import load_settings
from memguard.episodes import Episode, EpisodeStore
from memguard.host import private_bytes_now
settings = load_settings({"runtime_dir": sys.argv[2], "capacity": "1GiB"})
store = EpisodeStore(sys.argv[1], cache_bytes="32MiB", cache_entries=1000, settings=settings)
ids = store.add_episodes(Episode(text=f"{number} " + "word " * 16000) for number in range(400))
more = []
def fill():
    for each in ids:
        store.get_episode(each)
fill()
print("filled", flush=True)
for line in sys.stdin:
    what = line.split()
    if what[0] == "take":
        more.append(bytearray(b"x") * (int(what[1]) << 20))
    elif what[0] == "fill":
        fill()
    print(private_bytes_now(), store.held_bytes, len(store.get_episode(ids[7]).text), flush=True)
"""


class Ledger:
    """A ledger of 1 GiB, seen from outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = ledger_folder(folder)
        self.settings: Settings = load_settings({"runtime_dir": str(self.folder), "capacity": "1GiB"})
        self.others: list[Filled] = []
        self.book = LedgerBook(self.folder, lambda: room_for(self.settings))

    def stores(self) -> list[Lease]:
        """Return the leases of stores of those who live."""
        return [each for each in self.book.settle().values() if each.name.startswith("episodes: ")]

    def store(self, folder: Path, **options: object) -> EpisodeStore:
        return EpisodeStore(folder, settings=self.settings, **options)  # type: ignore[arg-type]

    def filled(self, folder: Path, begin: Callable[[], None] | None = None) -> Filled:
        self.others.append(Filled(folder, self.folder, begin))
        return self.others[-1]


class Filled:
    """Another process with a store whose caches are full."""

    def __init__(self, folder: Path, runtime: Path, begin: Callable[[], None] | None) -> None:
        words = [sys.executable, "-c", FILLED, str(folder), str(runtime)]
        self.process = subprocess.Popen(
            words,
            cwd=ROOT,
            stdin=-1,
            stdout=-1,
            text=True,
            preexec_fn=begin,  # noqa: PLW1509 - one write, no lock
        )
        assert self._answer() == "filled\n"

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def tell(self, *words: object) -> tuple[int, int, int]:
        """Tell it something; returns its private memory, what its caches hold, and the length of an episode it read."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        private, held, length = map(int, self._answer().split())
        return private, held, length

    def end(self) -> None:
        self.process.communicate()
        assert self.process.returncode == 0


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "ledger")
    yield made
    for each in made.others:
        each.process.kill()
        each.process.communicate()
    assert eventually(lambda: not made.stores())
    assert made.book.leases() == ()
    made.book.close()


@pytest.mark.requirement("E5")
def test_an_open_store_has_a_lease_that_follows_its_caches(ledger: Ledger, tmp_path: Path) -> None:
    """The lease has the store's name, grows and shrinks with the caches up to their bounds, and ends with the store."""
    with ledger.store(tmp_path / "store", cache_bytes="32MiB", cache_entries=1000) as store:
        (lease,) = ledger.stores()
        assert (lease.name, lease.owner.pid) == (f"episodes: {tmp_path / 'store'}", os.getpid())
        assert lease.reserved_bytes == MIB
        ids = store.add_episodes(Episode(text=f"{number} " + "word " * 16000) for number in range(400))
        for each in ids:
            store.get_episode(each)
        held = store.held_bytes
        assert 20 * MIB < held <= store.most_held_bytes
        (lease,) = eventually(lambda: [each for each in ledger.stores() if each.used_bytes == held])
        assert (lease.reserved_bytes >= held, lease.reserved_bytes % (4 * MIB)) == (True, 0)
        assert store.shed(1) > held // 2
        (lease,) = eventually(lambda: [each for each in ledger.stores() if each.reserved_bytes < held // 2])
        assert store.holding.degraded == ""
    assert ledger.stores() == []


@pytest.mark.requirement("E5")
def test_a_store_does_not_wait_behind_large_jobs(ledger: Ledger, tmp_path: Path) -> None:
    """Where all memory is promised and a job waits for it, a store opens, works without a promise, and is in nobody's way."""
    most = ledger.book.room().capacity_bytes
    holder = ledger.book.hold(Wish("large", "large", most))
    waiting = ledger.book.ask(Wish("next", "next", most))
    assert (holder.reserved_bytes, waiting.is_granted) == (most, False)
    with ledger.store(tmp_path / "store") as store:
        (lease,) = ledger.stores()
        assert lease.is_granted
        assert lease.reserved_bytes == 0
        identity = store.add_episode(Episode(text="written all the same"))
        assert store.get_episode(identity).text == "written all the same"
        ledger.book.release("large")
        assert ledger.book.settle()["next"].is_granted
    ledger.book.release("next")


@pytest.mark.requirement("E5", "R7.4")
def test_who_is_asked_gives_back_and_goes_on_from_the_disk(ledger: Ledger, tmp_path: Path) -> None:
    """At the sentinel's word private memory really falls, episodes are served on, and nothing is kept until it is taken back."""
    other = ledger.filled(tmp_path / "store")
    before, held, length = other.tell("look")
    assert held > 20 * MIB
    (lease,) = ledger.stores()
    assert ledger.book.ask_of(lease, Ask.SHED)
    assert eventually(lambda: other.tell("look")[1] < MIB)
    after, _, still = other.tell("look")
    assert still == length
    other.tell("fill")
    assert eventually(lambda: other.tell("look")[1] < MIB)
    assert before - after > 0.8 * held
    assert eventually(lambda: [each for each in ledger.stores() if each.reserved_bytes <= 4 * MIB])
    assert ledger.book.ask_of(lease, Ask.NOTHING)
    assert eventually(lambda: other.tell("fill")[1] > 20 * MIB)
    other.end()


@pytest.mark.requirement("E5")
@pytest.mark.heavy
def test_a_full_machine_needs_no_sentinel(ledger: Ledger, tmp_path: Path) -> None:
    """Over 95 % of a real limit a store gives back by itself, and nobody had to watch."""
    with pen(200 * MIB) as machine:
        other = ledger.filled(tmp_path / "store", machine.enter)
        private, held, _ = other.tell("look")
        assert held > 20 * MIB
        other.tell("take", (int(0.955 * 200 * MIB) - private) >> 20)
        assert eventually(lambda: other.tell("look")[1] < MIB)
        other.end()


@pytest.mark.requirement("E5")
def test_a_killed_process_leaves_no_lease(ledger: Ledger, tmp_path: Path) -> None:
    """After kill -9 of a process with an open store its lease is struck at the next look of anybody."""
    other = ledger.filled(tmp_path / "store")
    assert len(ledger.stores()) == 1
    other.process.send_signal(signal.SIGKILL)
    other.process.communicate()
    assert ledger.stores() == []


@pytest.mark.requirement("E5", "E8")
@FORKS_BESIDE_THREADS
def test_a_forked_copy_takes_a_lease_of_its_own(ledger: Ledger, tmp_path: Path) -> None:
    """A copy has none until it uses the store, then its own, which ends with it; its parent's is left alone."""
    with ledger.store(tmp_path / "store") as store:
        identity = store.add_episode(Episode(text="before the fork"))
        theirs, mine = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.read(theirs, 1)
                assert store.get_episode(identity).text == "before the fork"
                assert store.holding.degraded == ""
                os.kill(os.getpid(), signal.SIGSTOP)
            finally:
                os._exit(0)
        assert [each.owner.pid for each in ledger.stores()] == [os.getpid()]
        os.write(mine, b"x")
        assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
        assert sorted(each.owner.pid for each in ledger.stores()) == sorted([os.getpid(), pid])
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(theirs)
        os.close(mine)
        assert [each.owner.pid for each in ledger.stores()] == [os.getpid()]


def test_a_store_that_nobody_has_any_more_ends_its_lease(ledger: Ledger, tmp_path: Path) -> None:
    """A store that was never closed gives its lease back when it is gone, in the same process."""
    store = ledger.store(tmp_path / "store")
    assert len(ledger.stores()) == 1
    del store
    gc.collect()
    assert eventually(lambda: not ledger.stores())


def test_without_a_ledger_it_works_without_a_lease(ledger: Ledger, tmp_path: Path) -> None:
    """With `ledger = off` there is no lease and nothing amiss; with a ledger that cannot be used it says so and works."""
    off = load_settings({"ledger": "off", "runtime_dir": str(ledger.folder)})
    with EpisodeStore(tmp_path / "store", settings=off) as store:
        store.add_episode(Episode(text="x"))
        assert (ledger.stores(), store.holding.degraded) == ([], "")
    (tmp_path / "file").write_text("no folder")
    unusable = load_settings({"runtime_dir": str(tmp_path / "file")})
    with EpisodeStore(tmp_path / "store", settings=unusable) as store:
        store.add_episode(Episode(text="y"))
        assert "without a reservation" in store.holding.degraded


def in_a_job(folder: str, runtime: str) -> tuple[str, str]:
    """Open a store inside a job; return whose memory its lease draws on, and its trouble."""
    settings = load_settings({"runtime_dir": runtime, "capacity": "1GiB"})
    with (
        EpisodeStore(folder, settings=settings) as store,
        LedgerBook(ledger_folder(Path(runtime)), lambda: room_for(settings)) as book,
    ):
        by_id = {each.lease_id: each for each in book.leases()}
        (lease,) = [each for each in by_id.values() if each.is_pool]
        return by_id[lease.parent_id].name, store.holding.degraded


def test_inside_a_job_it_draws_on_the_jobs_lease(ledger: Ledger, tmp_path: Path) -> None:
    """A store that a guarded job opens is part of what was promised to the job."""
    with MemoryManager("800MiB", settings=ledger.settings) as manager:
        result = manager.run(
            in_a_job, str(tmp_path / "store"), str(ledger.folder), memory="300MiB", name="trainer"
        )
    assert result.value == ("trainer", "")


def test_an_emergency_asks_a_store_whose_own_cache_is_empty(ledger: Ledger, tmp_path: Path) -> None:
    """What SQLite caches counts as held, so a store that was only written to is asked as well, and gives it back."""
    with ledger.store(tmp_path / "store", cache_entries=0) as store:
        store.add_episodes(Episode(text=f"{number} " + "word " * 2000) for number in range(1000))
        held = store.held_bytes
        assert held > 4 * MIB
        (result,) = [each for each in shed_all(1 << 40) if each.name == store.name]
        assert result.given_back_bytes == held - store.held_bytes
        assert store.held_bytes < MIB
        assert sum(each.given_back_bytes for each in shed_all(1 << 40)) == 0


def test_full_caches_are_filled_again_below_the_lower_line(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 96 % caches stay empty, at 92 % still, at 89 % they are filled again."""
    now = [0.96]
    monkeypatch.setattr(holding._machine, "used_fraction", lambda: now[0])
    with ledger.store(tmp_path / "store") as store:
        identity = store.add_episode(Episode(text="x" * 300_000))
        for fraction, short in ((0.96, True), (0.92, True), (0.89, False), (0.92, False)):
            now[0] = fraction
            store.holding.look()
            store.get_episode(identity)
            assert (store.holding.is_short, store._cache.held_bytes == 0) == (short, short)


def lease(name: str, reserved: int, used: int = 0) -> Lease:
    """Return a granted lease of so many MiB."""
    return Lease(name, OWNER, name, reserved * MIB, used * MIB, 0, 0.0, 0.0, "", 0, 0)


def test_a_cache_is_asked_first_and_for_nothing_else() -> None:
    """From the high line on a cache is asked to give back, once; below the elevated one that is taken back."""
    quiet = Job(lease(f"{POOL_PREFIX}a", 8), Entry())
    asked = Job(quiet.lease, Entry(asked=Ask.SHED))
    wanted = dict.fromkeys((Pressure.HIGH, Pressure.CRITICAL), Ask.SHED)
    for state in Pressure:
        assert [each.ask for each in pool_steps(state, 0.97, [quiet])] == (
            [wanted[state]] if state in wanted else []
        )
        back = [each.ask for each in pool_steps(state, 0.5, [asked])]
        assert back == ([Ask.NOTHING] if state <= Pressure.ELEVATED else [])


def test_a_job_may_have_all_that_caches_do_not_use() -> None:
    """A cache's promise that is not used, and what it uses of the reserve, keep no job waiting for ever."""
    room = Room(100 * MIB, 100 * MIB, "test")
    pool, job = lease(f"{POOL_PREFIX}a", 8, 8), lease("all", 100)
    assert free_bytes(room, [pool]) == 100 * MIB
    wish = Lease("all", OWNER, "all", 100 * MIB, 0, 0, 0.0, None, "", 0, 0)
    assert admitted(room, [pool], [wish], 1.0) == [wish]
    assert admitted(room, [pool, job], [wish], 1.0) == []
