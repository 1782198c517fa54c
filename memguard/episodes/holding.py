"""A store's hold on the machine's memory: a lease as large as what its caches hold, given back when memory is short.

Comes in: a store's caches. Goes out: a lease in the ledger of all jobs, under the store's name, that follows them; and
the word to give back. One thread of a process follows all of its stores. A lease is taken without waiting, so no store
waits behind a large job; and it ends with its process, however that ends.
"""

from __future__ import annotations

import atexit
import os
import secrets
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Protocol
from weakref import ref

from memguard.config import Settings
from memguard.host import read_machine
from memguard.leasing import Tenure, leased, parent_lease
from memguard.ledger.board import Ask
from memguard.ledger.book import Wish
from memguard.ledger.records import POOL_PREFIX
from memguard.redact import redact_error
from memguard.units import MIB
from memguard.worker.context import current_job

__all__ = ["Caches", "Holding"]

# How often stores are looked after: the sentinel gives a second until it asks jobs for more than their caches.
_LOOK_EVERY_S: Final = 0.25
# Where no sentinel watches, the machine is looked at once a second for all stores of a process.
_LOOK_AT_MACHINE_S: Final = 1.0
# What the end of the thread is waited for: it may be in the midst of a look at a ledger that is locked.
_END_S: Final = 1.0
# A lease is changed by this much at a time: each change is a transaction of a millisecond.
_STEP_BYTES: Final = 4 * MIB
# Above the first of these shares of the machine caches are given back, below the second they are filled again.
_SHORT, _ENOUGH = 0.95, 0.90


class Caches(Protocol):
    """What a store holds in memory."""

    folder: Path

    @property
    def held_bytes(self) -> int:
        """What its caches hold now."""

    @property
    def most_held_bytes(self) -> int:
        """What they can hold."""

    def shed(self, wanted_bytes: int, /) -> int:
        """Give them back."""

    def fill_caches(self, *, fill: bool) -> None:
        """Keep what is read from now on, or do not."""


class Holding:
    """A store's lease.

    Args:
        caches: of the store, which is not kept alive.
        settings: whether there is a ledger, and where.

    Attributes:
        is_short: whether memory is so short that the caches stay empty.
    """

    def __init__(self, caches: Caches, settings: Settings) -> None:
        self._caches, self._settings = ref(caches), settings
        self._name, self._most_bytes = f"episodes: {_shown(caches.folder)}", caches.most_held_bytes
        self._lock = threading.RLock()
        self._trouble = ""
        self.is_short = self._is_over = False
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._stack = ExitStack()
        first = min(MIB, self._most_bytes)
        wish = Wish(f"{POOL_PREFIX}{secrets.token_hex(8)}", self._name, first, parent_id=parent_lease())
        self._tenure: Tenure = self._stack.enter_context(
            leased(self._settings, wish, limit_bytes=self._most_bytes, is_pool=True)
        )
        _keeper.follow(self)

    @property
    def degraded(self) -> str:
        """What is amiss with it, in a sentence, or ``""``."""
        return self._trouble or self._tenure.degraded

    @property
    def reserved_bytes(self) -> int:
        """What is promised to the store now."""
        return self._tenure.reserved_bytes if self._tenure.seat is not None else 0

    def note_trouble(self, error: BaseException) -> None:
        """Tell what failed in the thread that looks after it."""
        self._trouble = f"the store's caches are not looked after: {redact_error(error)}"

    def ensure(self) -> None:
        """Have a lease in this process: a forked copy begins without one, and takes its own when it is used."""
        if self._pid == os.getpid() or self._is_over:
            return
        with self._lock:
            if self._pid != os.getpid():
                _abandoned.append(self._stack)
                self._begin()

    def look(self) -> None:
        """Follow the caches, and give them back where memory is short; the lease of a store that is gone ends."""
        caches = self._caches()
        if caches is None or self._is_over:
            self.end()
            return
        with self._lock:
            was_short, self.is_short = self.is_short, self._look_whether_short()
            if self.is_short:
                caches.shed(self._most_bytes)
            has_room = self._fit(caches.held_bytes)
            if self.is_short or was_short or not has_room:
                caches.fill_caches(fill=has_room and not self.is_short)

    def _fit(self, held_bytes: int) -> bool:
        """Tell what is held, and have as much promised, in steps; returns whether more could be held."""
        reserved = self._tenure.reserved_bytes
        wanted = min(self._most_bytes, -(-held_bytes // _STEP_BYTES) * _STEP_BYTES) or min(
            MIB, self._most_bytes
        )
        is_due = wanted > reserved or self.is_short or wanted <= reserved - 2 * _STEP_BYTES
        return self._tenure.fit(held_bytes, wanted if is_due else reserved)

    def _look_whether_short(self) -> bool:
        if self._tenure.entry().asked is not Ask.NOTHING:
            return True
        job = current_job()
        if job is not None and job.asked.now is not Ask.NOTHING:
            return True
        return self._used_fraction() >= (_ENOUGH if self.is_short else _SHORT)

    def _used_fraction(self) -> float:
        sight = self._tenure.sight()
        return sight.used_fraction if sight is not None and sight.is_fresh() else _machine.used_fraction()

    def end(self) -> None:
        """Give the lease back; once or many times."""
        with self._lock:
            self._is_over = True
            if self._pid == os.getpid():
                self._stack.close()
        _keeper.drop(self)

    def renew_lock(self) -> None:
        """Take a new lock, as a forked copy must."""
        self._lock = threading.RLock()


def _shown(folder: Path) -> str:
    home = os.path.expanduser("~")
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)


class _Machine:
    """How full the machine is, as it was a moment ago."""

    def __init__(self) -> None:
        self._seen = -_LOOK_AT_MACHINE_S, 0.0

    def used_fraction(self) -> float:
        now_s = time.monotonic()
        if now_s - self._seen[0] >= _LOOK_AT_MACHINE_S:
            machine = read_machine()
            self._seen = now_s, 1 - machine.available_bytes / machine.capacity_bytes
        return self._seen[1]


class _Keeper:
    """The thread that looks after all stores of a process; it ends with the last of them."""

    def __init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        self._lock = threading.RLock()
        self._holdings: list[Holding] = []
        self._thread: threading.Thread | None = None
        self._changed = threading.Event()

    def follow(self, holding: Holding) -> None:
        with self._lock:
            self._holdings.append(holding)
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._run, name="memguard-episodes", daemon=True)
            try:
                thread.start()
            except (
                RuntimeError
            ) as error:  # no thread can be had: the store works, and gives back when others shed
                holding.note_trouble(error)
            else:
                self._thread = thread

    def _run(self) -> None:
        while not self._is_idle():
            self._changed.wait(_LOOK_EVERY_S)
            for holding in tuple(self._holdings):
                self._look(holding)

    def _look(self, holding: Holding) -> None:
        try:
            holding.look()
        except Exception as error:  # noqa: BLE001 - a cache less that is looked after; the next look may be better
            holding.note_trouble(error)

    def drop(self, holding: Holding) -> None:
        """Look no more after a store; with the last one the thread ends, which is waited for."""
        with self._lock:
            if holding in self._holdings:
                self._holdings.remove(holding)
            thread = None if self._holdings else self._thread
            if thread is not None:
                self._changed.set()
        if thread not in (None, threading.current_thread()):
            thread.join(_END_S)

    def _is_idle(self) -> bool:
        with self._lock:
            self._changed.clear()
            if self._holdings:
                return False
            self._thread = None
            return True

    def end_all(self) -> None:
        """Give all leases back as the process ends: the next look of another one need not find it dead."""
        for holding in tuple(self._holdings):
            holding.end()


_machine: Final = _Machine()
_keeper: Final = _Keeper()
# What a forked copy inherited: it is its parent's.
_abandoned: Final[list[ExitStack]] = []

os.register_at_fork(after_in_child=_keeper.start_over)
atexit.register(_keeper.end_all)
