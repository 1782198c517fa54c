"""Kill -9 at random, of four processes that write to one store of episodes, again and again.

Each adds batches of one to some hundred, with vectors, updates and deletes, and writes down every id as soon as it is
acknowledged; it is killed in the midst, and another takes its place.

Invariant: every acknowledged episode is there once, with the content that its id tells; no half batch is seen, by a
reader at any time nor at the end; `check` finds nothing.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import NoReturn

import _common

from memguard.episodes import Episode, EpisodeStore
from memguard.episodes.embedding import HashingEmbedder

REQUIREMENTS = ("E7", "E8", "E14")

_WRITERS = 4
_SELDOM = 0.1
# While a store is looked at it grows, and to look at a large one takes ever longer.
_LARGE = 100_000


def write(folder: Path, told: Path, seed: str) -> NoReturn:
    """Add, update and delete until killed; write down what is acknowledged."""
    chance, number = random.Random(seed), 0
    out = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    store = EpisodeStore(folder, embedder=HashingEmbedder(64), cache_entries=0)
    while True:
        number += 1
        batch, size = f"{seed}.{number}", chance.choice((1, 1, 1, 2, 30, 400))
        ids = store.add_episodes(an_episode(batch, size, each) for each in range(size))
        os.write(out, "".join(f"+{each}\n" for each in ids).encode())
        if chance.random() < _SELDOM:
            store.update(ids[0], metadata={"batch": batch, "size": size, "again": True})
        if chance.random() < _SELDOM and size == 1:
            os.write(out, f"?{ids[0]}\n".encode())
            store.delete(ids[0])
            os.write(out, f"-{ids[0]}\n".encode())


def an_episode(batch: str, size: int, number: int) -> Episode:
    """Return an episode that follows from its id."""
    metadata = {"batch": batch, "size": size}
    return Episode(text=f"{batch} {number} 忘却", metadata=metadata, id=f"{batch}.{number}")


class Writers:
    """Those who write now, each with a file of what it was told; forked, so that they write at once."""

    def __init__(self, folder: Path, store: Path, chance: random.Random) -> None:
        self._folder, self._store, self._chance = folder, store, chance
        self._living: list[int] = []
        self.killed = 0

    def fill(self) -> None:
        """Start what is missing."""
        while len(self._living) < _WRITERS:
            seed = f"{self.killed}-{len(self._living)}-{self._chance.randrange(10**9)}"
            pid = os.fork()
            if pid == 0:
                try:
                    write(self._store, self._folder / f"{seed}.told", seed)
                finally:
                    traceback.print_exc()
                    os._exit(1)
            self._living.append(pid)

    def kill_one(self) -> None:
        """Kill one of them; one that ended by itself has failed."""
        victim = self._living.pop(self._chance.randrange(len(self._living)))
        os.kill(victim, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(victim, 0)[1])
        if status != -signal.SIGKILL:
            raise RuntimeError(f"a writer ended by itself, with status {status}")
        self.killed += 1

    def kill_all(self) -> None:
        """Kill all that are left."""
        while self._living:
            self.kill_one()


def chaos(parsed: argparse.Namespace, checks: _common.Checks) -> None:
    """Kill writers until the time is over; a store that has grown large is checked, and another one begun."""
    chance, clock = random.Random(parsed.seed), _common.Clock(parsed.duration)
    killed = stores = episodes = 0
    while clock.left() and killed < (most := 20 if parsed.quick else parsed.count):
        folder = Path(os.environ["TMPDIR"]) / f"round {stores}"
        folder.mkdir()
        killed += kill_writers(folder, chance, clock, parsed.pause, most - killed, checks)
        with EpisodeStore(folder / "store") as store:
            check_all(store, folder, checks)
            episodes += len(store)
        stores += 1
        shutil.rmtree(folder)
    print(f"{killed} writers killed, {episodes:,} episodes in {stores} stores")


def kill_writers(  # noqa: PLR0917 - each of another kind
    folder: Path,
    chance: random.Random,
    clock: _common.Clock,
    pause_s: float,
    most: int,
    checks: _common.Checks,
) -> int:
    """Kill writers of one store and look at it meanwhile; return how many were killed."""
    writers, size = Writers(folder, folder / "store", chance), 0
    try:
        while clock.left() and writers.killed < most and size < _LARGE:
            writers.fill()
            time.sleep(chance.uniform(0.0, 2 * pause_s))
            writers.kill_one()
            if writers.killed % 20 == 0:
                # Opened for this look alone: the writers are forked while nobody here has the store open.
                with EpisodeStore(folder / "store") as store:
                    check_batches(store, checks)
                    size = len(store)
    finally:
        writers.kill_all()
    return writers.killed


def check_all(store: EpisodeStore, folder: Path, checks: _common.Checks) -> None:
    """Look at a store that nobody writes to any more."""
    check_batches(store, checks)
    check_acknowledged(store, folder, checks)
    damage = list(store.check())
    checks.check(not damage, f"damage: {damage[:3]}")
    found = store.search_episodes_by_text("忘却", 5)
    checks.check(len(store) == 0 or bool(found), "the words of all texts were not found")


def check_batches(store: EpisodeStore, checks: _common.Checks) -> None:
    """Each batch is there as a whole; only batches of one are deleted."""
    sizes: dict[str, int] = {}
    counts: Counter[str] = Counter()
    for each in store.episodes():
        sizes[each.metadata["batch"]] = each.metadata["size"]
        counts[each.metadata["batch"]] += 1
    # One that is updated between two pages is seen in both.
    halves = [batch for batch in sizes if counts[batch] < sizes[batch]]
    checks.check(not halves, f"half batches: {halves[:3]}")


def check_acknowledged(store: EpisodeStore, folder: Path, checks: _common.Checks) -> None:
    """What was acknowledged is there once; what was deleted is gone; what was being deleted is either."""
    told = [line for path in folder.glob("*.told") for line in path.read_text().split("\n") if line]
    added, maybe, deleted = ({line[1:] for line in told if line[0] == sign} for sign in "+?-")
    there = Counter(each.id for each in store.episodes())
    lost = added - maybe - set(there)
    checks.check(not lost, f"{len(lost)} acknowledged episodes are lost: {sorted(lost)[:3]}")
    checks.check(not deleted & set(there), "deleted episodes are there")
    checks.check(all(count == 1 for count in there.values()), "episodes are there twice")
    wrong = [
        each for each in there if store.get_episode(each).text != f"{' '.join(each.rsplit('.', 1))} 忘却"
    ]
    checks.check(not wrong, f"other content than the id tells: {wrong[:3]}")


def main() -> int:
    """Run the chaos."""
    parser = _common.options(__doc__, duration_s=900.0, count=1000)
    parser.add_argument("--quick", action="store_true", help="twenty kills")
    parser.add_argument(
        "--pause", type=float, default=0.05, help="mean seconds between kills (default: 0.05)"
    )
    return _common.run_in_pen(chaos, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
