"""How often those who wait look into the ledger: seldom, where a sentinel does so for all of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from memguard.errors import ReservationTimeout
from memguard.ledger.beacon import Beacon, Sight, domain_file
from memguard.ledger.book import LedgerBook, boot_seconds
from memguard.ledger.records import Lease
from memguard.ledger.seat import SIGHT
from memguard.ledger.waiting import acquire
from memguard.units import MIB
from tests.support.ledgers import CAPACITY, book_in, wish


class CountingBook(LedgerBook):
    """A book that counts how often it was settled."""

    settled = 0

    def settle(self) -> dict[str, Lease]:
        """As it does, and count."""
        self.settled += 1
        return super().settle()


@pytest.mark.parametrize(("is_watched", "times"), [(True, 2), (False, 3)])
def test_who_waits_looks_seldom_where_a_sentinel_does(tmp_path: Path, is_watched: bool, times: int) -> None:
    """In 1.2 s a waiter settles when he asks and at the end; in between only where nobody else looks."""
    if is_watched:
        with Beacon(domain_file(tmp_path, SIGHT, "")) as beacon:
            beacon.write(Sight(boot_seconds(), os.getpid(), 0, 0, 0.0, 0.5, CAPACITY, 0, 0, 0.0, 1.0, 1.0, 1))
    with book_in(tmp_path) as holder:
        holder.ask(wish("all", CAPACITY // MIB))
        with CountingBook(tmp_path, holder.room) as book:
            with pytest.raises(ReservationTimeout):
                acquire(book, wish("late", 10), timeout_s=1.2)
            assert book.settled == times
