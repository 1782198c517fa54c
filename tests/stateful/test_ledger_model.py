"""The ledger against a plain model, through two books at once: whatever happens, what was promised is there."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from memguard.host import identify
from memguard.host.readings import ProcessIdentity
from memguard.ledger.admission import in_order
from memguard.ledger.book import LedgerBook, Wish, boot_seconds
from memguard.ledger.records import Room
from memguard.units import MIB

CAPACITY_MIB = 20
SIZES = st.integers(0, CAPACITY_MIB)


class LedgerMachine(RuleBasedStateMachine):
    """Asks, uses, grows, releases and dies on a machine of 20 MiB, of which strangers use some."""

    alive: Bundle[str] = Bundle("alive")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.used: dict[str, int] = {}
        self.strangers_mib = 0
        self.number = 0
        self.books = [LedgerBook(Path(self.folder.name), self.room, reading_lasts_s=0) for _ in range(2)]

    def room(self) -> Room:
        used = self.strangers_mib + sum(self.used.values())
        return Room(CAPACITY_MIB * MIB, (CAPACITY_MIB - used) * MIB, "the test")

    @initialize()
    def begin(self) -> None:
        assert self.books[0].leases() == ()

    @rule(target=alive, which=st.integers(0, 1), mib=SIZES, priority=st.integers(-1, 1))
    def ask(self, which: int, mib: int, priority: int) -> str:
        self.number += 1
        name = f"{self.number}"
        self.books[which].ask(Wish(name, name, mib * MIB, priority))
        return name

    @rule(name=alive, mib=st.integers(0, 6))
    def use(self, name: str, mib: int) -> None:
        """A job uses what it likes, its promise or more."""
        lease = self.leases()[name]
        if lease.is_granted:
            self.used[name] = mib
            self.books[0].note_used(lease, mib * MIB)

    @rule(name=alive, which=st.integers(0, 1), mib=st.integers(-5, 5))
    def grow(self, name: str, which: int, mib: int) -> None:
        before = self.leases()
        free = self.free_bytes(before)
        waits = any(not lease.is_granted for lease in before.values())
        grew = self.books[which].grow(name, mib * MIB)
        assert grew == (before[name].is_granted and (mib <= 0 or (not waits and mib * MIB <= free)))

    @rule(name=consumes(alive), which=st.integers(0, 1))
    def release(self, name: str, which: int) -> None:
        self.used.pop(name, None)
        for book in self.books:  # its own book forgets it, whichever it was
            book._own.pop(name, None)
        self.books[which].release(name)

    @rule(name=consumes(alive))
    def die(self, name: str) -> None:
        """Its process ends without a word; anybody's next look strikes it."""
        self.used.pop(name, None)
        me = identify()
        dead = ProcessIdentity(me.host, me.boot_id, me.pid, me.start_ticks - 1)
        for book in self.books:
            book._own.pop(name, None)
        store = self.books[0]._files._store
        with store.transaction() as transaction:
            transaction._connection.execute(
                "UPDATE lease SET start_ticks = ? WHERE lease_id = ?", (dead.start_ticks, name)
            )
        self.books[1].settle()

    @rule(mib=st.integers(0, CAPACITY_MIB))
    def strangers(self, mib: int) -> None:
        """Other programs take or give back memory; somebody looks a moment later."""
        self.strangers_mib = mib
        self.books[0].settle()

    def free_bytes(self, leases: Any) -> int:
        """What nobody has: each job has what it uses, or what it was promised, whichever is more."""
        held = (
            max(lease.reserved_bytes, self.used.get(name, 0) * MIB)
            for name, lease in leases.items()
            if lease.is_granted
        )
        return (CAPACITY_MIB - self.strangers_mib) * MIB - sum(held)

    def leases(self) -> Any:
        return {lease.lease_id: lease for lease in self.books[0].leases()}

    @invariant()
    def only_the_living_have_leases(self) -> None:
        leases = self.leases()
        assert all(lease.owner == identify() for lease in leases.values())
        assert set(self.used) <= set(leases)

    @invariant()
    def nobody_waits_for_what_is_free(self) -> None:
        leases = self.leases()
        waiting = in_order([lease for lease in leases.values() if not lease.is_granted], boot_seconds())
        assert not waiting or waiting[0].reserved_bytes > self.free_bytes(leases)

    @invariant()
    def what_is_promised_is_there(self) -> None:
        """Unless strangers or liars took it, which no book can prevent."""
        granted = [lease for lease in self.leases().values() if lease.is_granted]
        honest = all(lease.overrun_bytes == 0 for lease in granted)
        if honest and self.strangers_mib == 0:
            assert sum(lease.held_bytes for lease in granted) <= CAPACITY_MIB * MIB

    def teardown(self) -> None:
        for book in self.books:
            book.close()
        self.folder.cleanup()


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
