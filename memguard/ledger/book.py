"""The machine's ledger of memory as one process sees it: ask, grow, release, and see who holds what.

Comes in: wishes, and readings of the machine. Goes out: leases, written down where every process of the user sees
them, and rings for those whose wish was granted. There is no server: whoever asks or releases decides for all who wait,
inside one transaction. A lease ends when it is released, or when its owner is proven dead. To wait:
`memguard.ledger.waiting`.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from memguard.errors import LedgerError
from memguard.host import identify, is_alive
from memguard.ledger.beacon import Beacon, Sight, domain_file, sight_at
from memguard.ledger.board import Ask, Entry, entry_in
from memguard.ledger.change import Change
from memguard.ledger.files import LedgerFiles
from memguard.ledger.records import Action, Lease, Room
from memguard.ledger.seat import SIGHT, Seat
from memguard.ledger.store import Transaction
from memguard.ledger.wake import ring

__all__ = ["READING_LASTS_S", "LedgerBook", "Wish", "boot_seconds"]

# A reading of the machine costs a millisecond; in this time the fastest job takes 60 MiB, which the reserve covers.
READING_LASTS_S: Final = 0.01
# Of the machine, where nobody looked.
_UNSEEN: Final = Room(0, 0, "")


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for; see `memguard.ledger.records.Lease`.

    Attributes:
        limit_bytes: how far it may grow; 0 for no further than ``reserved_bytes``.
    """

    lease_id: str
    name: str
    reserved_bytes: int
    priority: int = 0
    parent_id: str = ""
    limit_bytes: int = 0


def boot_seconds() -> float:
    """Return seconds since boot, less those in which the machine slept.

    The same for all processes, and untouched by whoever sets the clock. Sleep is left out because nobody could do
    anything in it: else a job frozen before a laptop's lid was closed would have waited too long when it is opened.
    """
    return time.clock_gettime(time.CLOCK_MONOTONIC)


class LedgerBook:
    """This process's access to the ledger. Thread-safe; a forked copy begins without leases of its own.

    Args:
        folder: where it is; see `memguard.ledger.place.ledger_folder`.
        read_room: reads what the machine has for leases now.
        reading_lasts_s: for how long a reading is good enough for further decisions.

    Raises:
        LedgerError: if it cannot be opened. Every method raises it where the file stays locked or is full.
    """

    def __init__(
        self, folder: Path, read_room: Callable[[], Room], *, reading_lasts_s: float = READING_LASTS_S
    ) -> None:
        self._folder = folder
        self._reading_lasts_s = reading_lasts_s
        self._read_room = read_room
        self._lock = threading.RLock()
        self._begin()
        _books.add(self)

    def _begin(self) -> None:
        self._me = identify()
        self._own: dict[str, Lease] = {}
        self._holders: dict[str, Callable[[], object | None]] = {}
        self._seen: tuple[float, bytes, Room] | None = None
        self._files = LedgerFiles(self._folder)
        self._domain: str | None = None
        self._beacon: Beacon | None = None

    def ask(self, wish: Wish) -> Lease:
        """Write a wish down; it is granted at once where its turn has come, else when somebody makes room.

        Raises:
            CapacityExceeded: if it is more than there is at all.
        """
        lease = self._enter(wish, Change.add)
        return lease if lease.is_granted else self.settle()[lease.lease_id]

    def hold(self, wish: Wish) -> Lease:
        """Take what is free at once of a wish, perhaps nothing, and never wait: for whoever holds memory already.

        Raises:
            CapacityExceeded: if it is more than there is at all.
        """
        return self._enter(wish, Change.hold)

    def _enter(self, wish: Wish, enter: Callable[[Change, Lease], None]) -> Lease:
        def add(change: Change) -> None:
            if change.is_crowded:
                change.reclaim(is_alive)
            slot, token = change.free_slot(), int.from_bytes(os.urandom(8)) >> 1
            # Before anybody can see the lease: what is asked of it must not be taken for another's.
            self._files.board.claim(slot, token)
            lease = Lease(
                wish.lease_id, self._me, wish.name, wish.reserved_bytes, 0, wish.priority, boot_seconds(), None,
                wish.parent_id, slot, token, self._domain or "", wish.limit_bytes, wish.reserved_bytes,
            )  # fmt: skip
            enter(change, lease)

        with self._lock:
            lease = self._change(add, asking=wish.lease_id).leases[wish.lease_id]
            self._own[lease.lease_id] = lease
        return lease

    def as_it_stands(self, lease: Lease) -> Lease:
        """Return a lease of this process as it was last seen: it has another slot in a file that was replaced."""
        return self._own.get(lease.lease_id, lease)

    def note_holder(self, lease_id: str, holder: object) -> None:
        """Have a lease end when nobody holds its holder any more; seen at the next change."""
        with self._lock:
            self._holders[lease_id] = weakref.ref(holder)

    def release(self, lease_id: str) -> None:
        """End a lease or a wish; once or many times."""
        with self._lock:
            # From here on nobody has it: what an interrupt or a locked file keeps from its end, the next change ends.
            self._holders[lease_id] = _nobody
            change = self._change_only(lambda change: change.remove_of(self._me, lease_id))
            self._own.pop(lease_id, None)
            self._holders.pop(lease_id, None)
        if any(
            not lease.is_granted or lease.reserved_bytes != lease.own_bytes
            for lease in change.leases.values()
        ):
            self._change(lambda _: None)

    def grow(self, lease_id: str, extra_bytes: int, *, unless_bytes: int | None = None) -> bool:
        """Ask for more, or give a part back (a negative amount), without waiting; False where it is not to be had.

        ``unless_bytes``: nothing is asked where so much is promised to it already, for those inside it.
        """
        grown: list[bool] = []

        def grow_it(change: Change) -> None:
            has = change.leases[lease_id].reserved_bytes if lease_id in change.leases else 0
            enough = unless_bytes is not None and has >= unless_bytes
            grown.append(not enough and change.grow(lease_id, extra_bytes))

        self._change(grow_it)
        return grown[-1]

    def keep(self) -> None:
        """Write down again what this process holds where the file was put aside or removed; else costs a glance."""
        with self._lock:
            if self._own and not self._files.is_current:
                self._change(lambda _: None)

    def settle(self) -> dict[str, Lease]:
        """Strike the leases of the dead and grant what can be granted; returns all leases, by id."""
        return self._change(lambda change: change.reclaim(is_alive)).leases

    def note_used(self, lease: Lease, used_bytes: int) -> None:
        """Tell what a lease's tree uses now; costs a microsecond."""
        self._files.board.write_used(lease.slot, used_bytes)

    def note_root(self, lease: Lease, pid: int, start_ticks: int, limit_bytes: int) -> None:
        """Tell which tree of processes a lease is for, and where its guard stops it."""
        self._files.board.write_root(lease.slot, pid, start_ticks, limit_bytes)

    def seat(self, lease: Lease) -> Seat:
        """Return where a lease's own guard tells what it uses."""
        return Seat(str(self._folder), lease.domain, lease.lease_id, lease.slot, lease.token)

    def entry(self, lease: Lease) -> Entry:
        """Return what stands on the board for a lease now: what it uses, what is asked of it."""
        return self._files.board.entry(lease.slot, lease.token)

    def entries(self) -> Callable[[Lease], Entry]:
        """Return what stands on the board now, for any lease."""
        figures = self._files.board.copy()
        return lambda lease: entry_in(figures, lease.slot, lease.token)

    def ask_of(self, lease: Lease, what: Ask) -> bool:
        """Ask something of a lease's job; False if the lease has ended."""
        return self._files.board.ask(lease.slot, lease.token, what, boot_seconds())

    def note_action(self, action: Action) -> int:
        """Write down what was done to a job; returns its number."""
        with self._lock:
            return self._files.run(lambda transaction: transaction.note_action(action))

    def note_effect(self, action_id: int, freed_bytes: int) -> None:
        """Write down what came of an action."""
        with self._lock:
            self._files.run(lambda transaction: transaction.note_effect(action_id, freed_bytes))

    def actions(self, lease_id: str | None = None) -> list[Action]:
        """Return what was done lately, to one job or to all, the oldest first."""
        with self._lock:
            return self._files.run(lambda transaction: transaction.actions(lease_id))

    def sight(self) -> Sight | None:
        """Return what the sentinel of this domain saw last; ``None`` if none ever looked."""
        with self._lock:
            if self._beacon is None:
                self._look()
            return self._beacon.read() if self._beacon is not None else None

    @property
    def folder(self) -> Path:
        """Where the ledger is."""
        return self._folder

    @property
    def domain(self) -> str:
        """Whose memory this process's leases are of; see `memguard.ledger.records.Room`."""
        with self._lock:
            return self._look()[0].domain if self._domain is None else self._domain

    def leases(self) -> tuple[Lease, ...]:
        """Return all leases and wishes, in the order in which they were asked for."""
        return tuple(sorted(self._change(lambda _: None).leases.values(), key=lambda lease: lease.asked_at_s))

    def room(self) -> Room:
        """Return what the machine has for leases now."""
        with self._lock:
            return self._look()[0]

    def _change(self, act: Callable[[Change], object], *, asking: str = "") -> Change:
        """Make one change, grant what it makes room for, and wake those who were granted."""
        with self._lock:
            self._begin_in_copy()
            room, used_of = self._look()

            def change_it(transaction: Transaction) -> Change:
                change = Change(transaction, room, used_of, boot_seconds())
                self._drop_forgotten(change)
                self._write_again(change)
                change.refit()
                act(change)
                change.admit()
                return change

            change = self._files.run(change_it)
            _owed.pop(self._folder, None)
            self._own.update({lease.lease_id: change.leases[lease.lease_id] for lease in self._own.values()})
        # Who asked just now has his answer without a ring.
        others = [lease for lease in change.granted if lease.lease_id != asking]
        heard = [ring(lease.lease_id) or lease.owner == self._me for lease in others]
        # Whoever does not hear is dead, or gives up at this moment: he must not keep what others wait for.
        return change if all(heard) else self._change(lambda change: change.reclaim(is_alive))

    def _change_only(self, act: Callable[[Change], object]) -> Change:
        """Make one change that needs no look at the machine, and grant nothing."""
        self._begin_in_copy()

        def change_it(transaction: Transaction) -> Change:
            change = Change(transaction, _UNSEEN, lambda *_: 0, boot_seconds())
            act(change)
            return change

        return self._files.run(change_it)

    def _drop_forgotten(self, change: Change) -> None:
        for lease_id in [*self._forgotten(), *_owed.get(self._folder, ())]:
            change.remove_of(self._me, lease_id)
            self._own.pop(lease_id, None)
            self._holders.pop(lease_id, None)

    def _forgotten(self) -> list[str]:
        return [each for each, holder in self._holders.items() if holder() is None]

    def _write_again(self, change: Change) -> None:
        """Write down what this process holds and the file does not know: it was damaged or removed, and is new."""
        for lease in self._own.values():
            known = change.leases.get(lease.lease_id)
            if known is None:
                known = dataclasses.replace(lease, slot=change.free_slot(lease.slot))
                change.restore(known)
            if not self._files.board.belongs_to(known.slot, known.token):
                self._files.board.restore(known.slot, known.token, self._files.former_figures)

    def _look(self) -> tuple[Room, Callable[[int, int], int]]:
        """Return the machine and the board, seen together a moment ago at most.

        The board first: what a job takes in between is then counted twice for a moment, and never left out.
        """
        now_s = time.monotonic()
        if self._seen is None or now_s - self._seen[0] >= self._reading_lasts_s:
            self._seen = now_s, self._files.board.copy(), self._read_here()
        _, figures, room = self._seen
        return room, lambda slot, token: entry_in(figures, slot, token).used_bytes

    def _read_here(self) -> Room:
        """Read the room. Its domain is that of the first reading: a lease does not move when a limit comes or goes."""
        room = self._read_room()
        if self._domain is None:
            self._domain = room.domain
            self._beacon = _open_beacon(domain_file(self._folder, SIGHT, room.domain))
        around = (dataclasses.replace(each, is_closed=self._is_closed(each.domain)) for each in room.around)
        is_closed = _closes_gate(self._beacon.read() if self._beacon is not None else None)
        return dataclasses.replace(room, domain=self._domain, is_closed=is_closed, around=tuple(around))

    def _is_closed(self, domain: str) -> bool:
        try:
            return _closes_gate(sight_at(domain_file(self._folder, SIGHT, domain)))
        except OSError as error:
            raise _unusable(domain_file(self._folder, SIGHT, domain), error) from error

    def _begin_in_copy(self) -> None:
        if self._me.pid != os.getpid():
            self._close_all()
            self._begin()

    def close(self) -> None:
        """Close the files; leases that somebody holds go on until he releases them or his process ends."""
        with self._lock:
            try:
                if any(holder() is None for holder in self._holders.values()):
                    self._change(lambda _: None)
            except LedgerError:
                # No space, or locked: the job is over all the same. Who opens it next here ends them, or our death.
                _owed.setdefault(self._folder, set()).update(self._forgotten())
            finally:
                self._close_all()

    def _close_all(self) -> None:
        self._files.close()
        if self._beacon is not None:
            self._beacon.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()


def _nobody() -> None:
    """Stand for a holder that is gone."""


def _open_beacon(path: Path) -> Beacon:
    try:
        return Beacon(path)
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> LedgerError:
    return LedgerError(f"{path} could not be used: {error.strerror or error}", path=str(path))


def _closes_gate(sight: Sight | None) -> bool:
    return sight is not None and bool(sight.is_shut) and sight.is_fresh()


_books: weakref.WeakSet[LedgerBook] = weakref.WeakSet()
# Leases of this process that are over, and that no book could strike before it was closed.
_owed: Final[dict[Path, set[str]]] = {}


def _renew_locks() -> None:
    for book in list(_books):
        book._renew_lock()


# The thread that held a lock does not exist in the copy.
os.register_at_fork(after_in_child=_renew_locks)
