"""A store of episodes on a disk that fills up again and again, and is given room again and again.

The disk is a small file system in a mount namespace of the program's own; where none can be mounted a limit on the size
of files (RLIMIT_FSIZE) stands for it. One process adds batches of random sizes until it is refused; then room is made,
it deletes some, and goes on.

Invariant: a refused add leaves nothing, what was acknowledged is all there with its content, the store can be read and
searched while the disk is full, goes on when there is room, and nothing is damaged.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import resource
import signal
import sys
from pathlib import Path

import _common

from memguard.episodes import Episode, EpisodeStore
from memguard.errors import EpisodeStoreError
from memguard.units import MIB

REQUIREMENTS = ("E7", "E14")

_DISK_BYTES, _BALLAST, _DIMENSION = 16 * MIB, 4 * MIB, 16
_NEW_NAMESPACE, _PRIVATE, _RECURSIVE, _REMOUNT, _DETACH = 0x00020000, 0x40000, 0x4000, 0x20, 2


def small_disk(folder: Path) -> bool:
    """Mount a small file system over a folder, for this process alone; whether that could be done."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NAMESPACE) or libc.mount(None, b"/", None, _PRIVATE | _RECURSIVE, None):
        return False
    size = f"size={_DISK_BYTES}".encode()
    return not libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, size)


def remounted(folder: Path, size_bytes: int) -> bool:
    """Give a mounted file system another size; whether that could be done."""
    told = f"size={size_bytes}".encode()
    return not ctypes.CDLL(None).mount(b"tmpfs", os.fsencode(folder), b"tmpfs", _REMOUNT, told)


class Limit:
    """A limit on the size of files in place of a full disk: what is written beyond it fails."""

    def __init__(self) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def set(self, most_bytes: int) -> None:
        """Let files grow as far as this."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))


class Disk:
    """What can be full, and be given room.

    Attributes:
        folder: where it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._limit = None if small_disk(folder) else Limit()
        self._most, self._size = _DISK_BYTES // 4, _DISK_BYTES
        print(f"disk: {'files of a limited size' if self._limit else 'a file system of its own'}", flush=True)

    def fill(self) -> None:
        """Take room away."""
        if self._limit is not None:
            self._limit.set(self._most)
        else:
            (self.folder / "ballast").write_bytes(bytes(_BALLAST))

    def make_room(self) -> None:
        """Give room again."""
        if self._limit is not None:
            self._limit.set(resource.RLIM_INFINITY)
        else:
            (self.folder / "ballast").unlink(missing_ok=True)

    def grow(self) -> None:
        """Let the next round go further."""
        self._most += _DISK_BYTES // 4
        self._size += 4 * _BALLAST
        if self._limit is None and not remounted(self.folder, self._size):
            raise OSError("the file system could not be made larger")


def full_disk(parsed: argparse.Namespace, checks: _common.Checks) -> None:
    """Fill and empty, round after round."""
    chance = random.Random(parsed.seed)
    disk = Disk(Path(os.environ["TMPDIR"]) / "disk")
    known: dict[str, str] = {}
    refused = 0
    for turn in range(3 if parsed.quick else parsed.count):
        disk.fill()
        with EpisodeStore(disk.folder / "store", cache_entries=0) as store:
            refused += add_until_refused(store, known, chance, turn, checks)
            disk.make_room()  # for what is searched for too: the index is written as it is needed
            disk.grow()
            checks.check(
                bool(store.add_episode(episode(known, f"{turn}.after", chance))), "room was not used"
            )
            look(store, known, checks, turn)
            damage = list(store.check())
            checks.check(not damage, f"damage: {damage[:3]}")
            empty(store, known)
    print(f"{refused} adds refused, {len(known):,} episodes at the end")
    checks.check(refused > 0, "the disk was never full")
    leave(disk)


def add_until_refused(
    store: EpisodeStore, known: dict[str, str], chance: random.Random, turn: int, checks: _common.Checks
) -> int:
    """Add batches until the disk is full, and thrice more; each refused one leaves nothing."""
    refused = number = 0
    while refused < 3 and number < 5000:
        number += 1
        fresh: dict[str, str] = {}
        size = chance.choice((1, 5, 200))
        batch = [episode(fresh, f"{turn}.{number}.{at}", chance) for at in range(size)]
        try:
            store.add_episodes(batch)
        except EpisodeStoreError:
            refused += 1
            checks.check(not any(each.id in store for each in batch), "a refused add left something")
            look(store, known, checks, turn)
        else:
            known.update(fresh)
    return refused


def episode(known: dict[str, str], name: str, chance: random.Random) -> Episode:
    """Make an episode, and note what it says."""
    known[name] = f"{name} 忘却 " + "word " * chance.randrange(300)
    vector = [chance.uniform(-1.0, 1.0) for _ in range(_DIMENSION)]
    return Episode(text=known[name], vector=vector, id=name)


def look(store: EpisodeStore, known: dict[str, str], checks: _common.Checks, turn: int) -> None:
    """All that was acknowledged is there, and is found."""
    there = {each.id: each.text for each in store.episodes()}
    checks.check(
        there == known, f"turn {turn}: {len(set(known) ^ set(there))} episodes are missing or too many"
    )
    if known:
        name = next(reversed(known))
        hits = store.search_episodes_by_text(known[name].split()[0], 10)
        checks.check(bool(hits), f"{name} was not found")


def empty(store: EpisodeStore, known: dict[str, str]) -> None:
    """Take some out of reach."""
    for name in list(known)[:20]:
        store.delete(name)
        del known[name]


def leave(disk: Disk) -> None:
    """Leave nothing: a mounted file system goes with this process, and its folder is then empty."""
    ctypes.CDLL(None).umount2(os.fsencode(disk.folder), _DETACH)
    _remove(disk.folder)


def _remove(folder: Path) -> None:
    for each in sorted(folder.rglob("*"), reverse=True):
        each.rmdir() if each.is_dir() else each.unlink()
    folder.rmdir()


def main() -> int:
    """Fill the disk."""
    parser = _common.options(__doc__, count=12)
    parser.add_argument("--quick", action="store_true", help="three rounds")
    return _common.run_in_pen(full_disk, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
