"""What the programs about the machine's ledger share: a machine made of a cgroup, and somebody who looks at its ledger.

A program calls `_common.run_in_pen` with ``is_machine=True``: then the pen is no fence of a job, so that whoever is
inside may have a sentinel, and the ledger is in a folder of the program's own. Where no cgroup can be made the ledger
is told of a share of the machine, which nobody enforces.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from memguard.config import Settings, load_settings
from memguard.host import Fence, is_alive
from memguard.ledger.records import Lease
from memguard.ledger.room import room_for
from memguard.ledger.snapshot import Snapshot, take_snapshot
from memguard.testing.pen import NoPenError, open_pen
from memguard.units import format_bytes

if TYPE_CHECKING:
    from _common import Checks

__all__ = [
    "Alarm",
    "LedgerWatch",
    "clear_ledger",
    "ledger",
    "open_machine",
    "own_machine",
    "prepare",
    "promised",
]

_FOLDER: Final = "ledger"
_PEN_VARIABLE: Final = "STRESS_PEN"
# What a ledger is made of; the last part of a domain's files is a digest.
_KNOWN_FILES: Final = (
    "ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm", "board", "sight", "sentinel.log", "sentinel.log.1",
)  # fmt: skip
# A lease of the dead is struck by whoever decides or waits, within a second, and by the sentinel within five; one that
# was killed or stopped itself is replaced first. The rest is for a busy machine.
_DEAD_FOR_S: Final = 30.0
_LOOK_EVERY_S: Final = 0.05


def open_machine(capacity_bytes: int) -> Fence | None:
    """Make a cgroup under a name that is no fence's; ``None`` where none can be made."""
    try:
        return open_pen("stress", capacity_bytes)
    except NoPenError:
        return None


def prepare(pen: Fence | None, scratch: Path, capacity_bytes: int) -> None:
    """Set what all processes of the program see: where the ledger is, and how large the machine."""
    (scratch / _FOLDER).mkdir(mode=0o700)
    os.environ["MEMGUARD_RUNTIME_DIR"] = str(scratch / _FOLDER)
    if pen is not None:
        os.environ[_PEN_VARIABLE] = f"{pen.kind}:{capacity_bytes}:{pen.path}"
    else:
        os.environ["MEMGUARD_CAPACITY"] = str(capacity_bytes)
        print("no cgroup can be made: MEMGUARD_CAPACITY stands for the machine, and nobody enforces it")


def own_machine() -> Fence | None:
    """Return the cgroup that the program runs in, for a body; ``None`` where there is none."""
    told = os.environ.get(_PEN_VARIABLE)
    if told is None:
        return None
    kind, capacity, path = told.split(":", 2)
    return Fence(path, kind, int(capacity))


def clear_ledger(scratch: Path) -> Iterator[str]:
    """Remove the program's ledger, if it had one, and tell what should not have been in it."""
    folder = scratch / _FOLDER
    if not folder.exists():
        return
    unknown = [path.name for path in folder.iterdir() if path.name.partition("-")[0] not in _PLAIN_NAMES]
    if unknown:
        yield f"files were left in the runtime directory: {sorted(unknown)}"
    seen = take_snapshot(folder, "", with_actions=False)
    if seen.trouble:
        yield f"the ledger cannot be read: {seen.trouble}"
    if seen.leases:
        yield f"leases were left: {[told(lease) for lease in seen.leases]}"
    shutil.rmtree(folder)


_PLAIN_NAMES: Final = frozenset(name.partition("-")[0] for name in _KNOWN_FILES)


def told(lease: Lease) -> str:
    """Return a lease in words."""
    state = "has" if lease.is_granted else "waits for"
    return f"{lease.name} (pid {lease.owner.pid}) {state} {format_bytes(lease.reserved_bytes)}"


def settings() -> Settings:
    """Return what the processes of this program read."""
    return load_settings()


def ledger() -> Snapshot:
    """Look at the ledger, without changing it."""
    chosen = settings()
    return take_snapshot(chosen.runtime_dir, room_for(chosen).domain)


def promised(leases: tuple[Lease, ...]) -> list[Lease]:
    """Return the leases of the living that hold memory of the machine, and not of another lease."""
    known = {lease.lease_id for lease in leases}
    return [
        lease
        for lease in leases
        if lease.is_granted and lease.parent_id not in known and is_alive(lease.owner)
    ]


class LedgerWatch:
    """Somebody who looks at the ledger twenty times a second, and checks what must hold at each look.

    Never more is promised to the living than there is; and no lease of a dead owner stays while somebody looks.

    Args:
        checks: where to tell.
        is_fixed: whether the machine keeps its size.
        somebody_looks: whether there is always somebody who would strike the leases of the dead.
    """

    def __init__(self, checks: Checks, *, is_fixed: bool = True, somebody_looks: bool = True) -> None:
        self._checks, self._is_fixed, self._somebody_looks = checks, is_fixed, somebody_looks
        self._settings = settings()
        self._room = room_for(self._settings)
        self._dead_since: dict[str, float] = {}
        self._told: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="ledger-watch")
        self.most_promised_bytes = 0
        self.longest_dead_s = 0.0
        self.most_leases = self.looks = 0

    def __enter__(self) -> LedgerWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._checks.check(self.looks > 0, "nobody could look at the ledger")

    def report(self) -> str:
        """Return what was seen, in a line."""
        return (
            f"{self.looks} looks at the ledger: at most {self.most_leases} leases, "
            f"{format_bytes(self.most_promised_bytes)} of {format_bytes(self._room.capacity_bytes)} promised, "
            f"a dead owner's lease seen for {self.longest_dead_s:.1f} s"
        )

    def _go_on(self) -> None:
        while not self._over.wait(_LOOK_EVERY_S):
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - a look that fails is told, and does not end the watch
                self._check(False, f"a look at the ledger failed: {type(error).__name__}: {error}")

    def look(self) -> None:
        """Look once."""
        seen = take_snapshot(self._settings.runtime_dir, self._room.domain, with_actions=False)
        if seen.path is None or seen.trouble:  # not there yet, or locked for longer than a look may wait
            return
        self.looks += 1
        self.most_leases = max(self.most_leases, len(seen.leases))
        held = promised(seen.leases)
        total = sum(lease.reserved_bytes for lease in held)
        self.most_promised_bytes = max(self.most_promised_bytes, total)
        if self._is_fixed:
            self._check(
                total <= self._room.capacity_bytes,
                f"{format_bytes(total)} were promised of {format_bytes(self._room.capacity_bytes)}: "
                f"{', '.join(map(told, held))}",
            )
        self._look_at_dead(seen.leases)

    def _look_at_dead(self, leases: tuple[Lease, ...]) -> None:
        now_s = time.monotonic()
        dead = {lease.lease_id: lease for lease in leases if not is_alive(lease.owner)}
        self._dead_since = {each: self._dead_since.get(each, now_s) for each in dead}
        for lease_id, since_s in self._dead_since.items():
            self.longest_dead_s = max(self.longest_dead_s, now_s - since_s)
            if self._somebody_looks:
                self._check(
                    now_s - since_s < _DEAD_FOR_S, f"the dead owner's lease stays: {told(dead[lease_id])}"
                )

    def _check(self, holds: bool, what: str) -> None:
        """Check; the same trouble is told once, though it may be seen at each look."""
        key = what.partition(":")[0]
        if holds or key not in self._told:
            self._told.update(() if holds else (key,))
            self._checks.check(holds, what)


class Alarm:
    """Counts how often the machine was full and the kernel found nothing to give back, but to kill somebody.

    Version 1 tells by an eventfd, version 2 counts in ``memory.events.local``; a fence that is full inside does not
    count. Where there is no machine of its own, or an old kernel, it counts nothing.
    """

    def __init__(self, pen: Fence | None) -> None:
        self._pen = pen
        self._events = self._control = -1
        self._before = 0

    def __enter__(self) -> Alarm:
        if self._pen is not None and self._pen.kind == "cgroup-v1":
            self._events = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._control = os.open(f"{self._pen.path}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            with contextlib.suppress(OSError):  # a kernel without CONFIG_MEMCG_V1's events refuses
                Path(self._pen.path, "cgroup.event_control").write_text(f"{self._events} {self._control}")
        self._before = self._counted()
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in (self._events, self._control):
            if descriptor >= 0:
                os.close(descriptor)

    def count(self) -> int:
        """Return how often since the beginning; each call counts anew."""
        if self._events >= 0:
            try:
                return os.eventfd_read(self._events)
            except BlockingIOError:
                return 0
        now = self._counted()
        count, self._before = now - self._before, now
        return count

    def _counted(self) -> int:
        local = None if self._pen is None else Path(self._pen.path, "memory.events.local")
        if local is None or not local.exists():
            return 0
        return int(dict(line.split() for line in local.read_text().splitlines())["oom"])
