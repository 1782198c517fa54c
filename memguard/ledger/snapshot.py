"""What stands in the ledger at one moment, for whoever only shows it: nothing is made, changed, granted or reclaimed.

Comes in: the folder, and whose memory is asked about. Goes out: leases, the board's figures, what the sentinel saw and
did, and in a sentence what of it could not be read. It does not raise: who looks at a machine in trouble must see the
rest of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from memguard.errors import LedgerError
from memguard.ledger.beacon import Sight, domain_file, sight_at
from memguard.ledger.board import Entry, entry_in, figures_at
from memguard.ledger.looking import looked_into
from memguard.ledger.place import find_ledger_folder
from memguard.ledger.records import Action, Lease
from memguard.ledger.seat import BOARD, SIGHT
from memguard.ledger.store import Transaction

__all__ = ["Snapshot", "take_snapshot"]

_T = TypeVar("_T")
_Look = tuple[tuple[Lease, ...], tuple[Action, ...]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What stands there.

    Attributes:
        path: the ledger's file; ``None`` where there is no ledger yet.
        leases: all leases and wishes, in the order in which they were asked for.
        entries: what stands on the board, by the id of the lease.
        actions: what the sentinel did lately, the oldest first.
        sight: what the sentinel of the domain saw last, however long ago.
        trouble: what could not be read and why, or ``""``.
    """

    path: Path | None = None
    leases: tuple[Lease, ...] = ()
    entries: dict[str, Entry] = dataclasses.field(default_factory=dict)
    actions: tuple[Action, ...] = ()
    sight: Sight | None = None
    trouble: str = ""

    def entry(self, lease: Lease) -> Entry:
        """Return what stands on the board for a lease."""
        return self.entries.get(lease.lease_id, Entry())


def take_snapshot(chosen: Path | None, domain: str, *, with_actions: bool = True) -> Snapshot:
    """Look once.

    Args:
        chosen: the setting ``runtime_dir``.
        domain: whose sentinel is meant; see `memguard.ledger.records.Room`.
        with_actions: also read what the sentinel did.
    """
    try:
        folder = find_ledger_folder(chosen)
    except (LedgerError, OSError) as error:
        return Snapshot(trouble=str(error))
    return Snapshot() if folder is None else _look_into(folder, domain, with_actions=with_actions)


def _look_into(folder: Path, domain: str, *, with_actions: bool) -> Snapshot:
    path, troubles = folder / "ledger.sqlite", list[str]()
    # The board before the leases, as those do who decide; see `memguard.ledger.book`.
    figures = _tried(lambda: figures_at(folder / BOARD), troubles) or b""
    sight = _tried(lambda: sight_at(domain_file(folder, SIGHT, domain)), troubles)
    try:
        leases, actions = _tried(lambda: _rows(path, figures, with_actions), troubles) or ((), ())
    except FileNotFoundError:
        return Snapshot(sight=sight, trouble="; ".join(troubles))
    entries = {each.lease_id: entry_in(figures, each.slot, each.token) for each in leases} if figures else {}
    return Snapshot(path, leases, entries, actions, sight, "; ".join(troubles))


def _rows(path: Path, figures: bytes, with_actions: bool) -> _Look:
    def used_of(slot: int, token: int) -> int:
        return entry_in(figures, slot, token).used_bytes if figures else 0

    def read(transaction: Transaction) -> _Look:
        leases = sorted(transaction.leases(used_of), key=lambda lease: lease.asked_at_s)
        return tuple(leases), tuple(transaction.actions() if with_actions else ())

    return looked_into(path, read)


def _tried(read: Callable[[], _T], troubles: list[str]) -> _T | None:
    try:
        return read()
    except FileNotFoundError:
        raise
    except (LedgerError, OSError) as error:
        troubles.append(str(error))
        return None
