"""Leases inside leases against a plain model: what is promised inside one is promised to it, and all of it is there."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from memguard.ledger.book import LedgerBook, Wish
from memguard.ledger.records import Lease, Room
from memguard.units import MIB

CAPACITY_MIB = 20
SIZES = st.integers(0, CAPACITY_MIB)


class NestedMachine(RuleBasedStateMachine):
    """Jobs ask, start jobs inside themselves, use what they were promised, grow and end, on a machine of 20 MiB."""

    outer: Bundle[str] = Bundle("outer")
    inner: Bundle[str] = Bundle("inner")
    anybody: Bundle[str] = Bundle("anybody")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.used: dict[str, int] = {}
        self.number = 0
        self.books = [LedgerBook(Path(self.folder.name), self.room, reading_lasts_s=0) for _ in range(2)]

    def room(self) -> Room:
        used = sum(self.used.get(name, 0) for name in self.roots())
        return Room(CAPACITY_MIB * MIB, CAPACITY_MIB * MIB - used, "the test")

    def roots(self) -> list[str]:
        """Those whose use is not part of another's."""
        leases = self.books[0]._files.current().leases()
        there = {lease.lease_id for lease in leases}
        return [lease.lease_id for lease in leases if lease.parent_id not in there]

    @rule(targets=(outer, anybody), which=st.integers(0, 1), mib=SIZES, limit=SIZES)
    def ask(self, which: int, mib: int, limit: int) -> str:
        return self._ask(which, mib, "", max(mib, limit))

    @rule(targets=(inner, anybody), which=st.integers(0, 1), parent=outer, mib=SIZES, limit=SIZES)
    def ask_inside(self, which: int, parent: str, mib: int, limit: int) -> str:
        there = self.leases().get(parent)
        if there is None or not there.is_granted:
            return multiple()
        return self._ask(which, mib, parent, max(mib, limit))

    @rule(targets=(inner, anybody), which=st.integers(0, 1), parent=outer, mib=SIZES)
    def take_inside(self, which: int, parent: str, mib: int) -> str:
        """Somebody who holds memory already takes what is free, and does not wait."""
        there = self.leases().get(parent)
        if there is None or not there.is_granted:
            return multiple()
        self.number += 1
        name = f"{self.number}"
        self.books[which].hold(Wish(name, name, mib * MIB, 0, parent))
        return name

    def _ask(self, which: int, mib: int, parent: str, limit: int) -> str:
        self.number += 1
        name = f"{self.number}"
        self.books[which].ask(Wish(name, name, mib * MIB, 0, parent, limit * MIB))
        return name

    @rule(name=anybody, part=st.floats(0, 1))
    def use(self, name: str, part: float) -> None:
        """An honest job: what it uses, with those inside it, was promised to it."""
        leases = self.leases()
        lease = leases.get(name)
        if lease is None or not lease.is_granted:
            return
        inside = sum(self.used.get(each.lease_id, 0) for each in leases.values() if each.parent_id == name)
        before = self.used.get(name, 0)
        self.used[name] = inside + int(part * max(0, lease.reserved_bytes - inside))
        self.books[0].note_used(lease, self.used[name])
        around = leases.get(lease.parent_id)
        if around is not None:
            total = self.used.get(around.lease_id, 0) + self.used[name] - before
            self.used[around.lease_id] = min(total, around.reserved_bytes)
            self.books[0].note_used(around, self.used[around.lease_id])

    @rule(name=anybody, which=st.integers(0, 1), mib=st.integers(0, 5))
    def grow(self, name: str, which: int, mib: int) -> None:
        before = self.leases().get(name)
        grew = self.books[which].grow(name, mib * MIB)
        after = self.leases().get(name)
        if before is not None and after is not None:
            assert after.own_bytes == before.own_bytes + (mib * MIB if grew else 0)

    @rule(name=consumes(inner), which=st.integers(0, 1))
    def release_inner(self, name: str, which: int) -> None:
        lease = self.leases().get(name)
        if lease is not None and lease.parent_id in self.used:
            self.used[lease.parent_id] -= min(self.used[lease.parent_id], self.used.get(name, 0))
            around = self.leases().get(lease.parent_id)
            if around is not None:
                self.books[0].note_used(around, self.used[lease.parent_id])
        self._release(name, which)

    @rule(name=consumes(outer), which=st.integers(0, 1))
    def release_outer(self, name: str, which: int) -> None:
        """Those inside go on, and are the machine's from now on."""
        self._release(name, which)

    def _release(self, name: str, which: int) -> None:
        self.used.pop(name, None)
        for book in self.books:  # its own book forgets it, whichever it was
            book._own.pop(name, None)
        self.books[which].release(name)

    def leases(self) -> dict[str, Lease]:
        return {lease.lease_id: lease for lease in self.books[0].leases()}

    @invariant()
    def what_is_promised_is_there(self) -> None:
        leases = self.leases()
        roots = [each for each in leases.values() if each.parent_id not in leases and each.is_granted]
        if all(each.overrun_bytes == 0 for each in leases.values()):
            assert sum(each.held_bytes for each in roots) <= CAPACITY_MIB * MIB

    @invariant()
    def what_is_inside_is_promised_around(self) -> None:
        leases = self.leases()
        for lease in leases.values():
            inside = [
                each for each in leases.values() if each.parent_id == lease.lease_id and each.is_granted
            ]
            promised = sum(each.reserved_bytes for each in inside)
            if lease.is_granted:
                assert lease.reserved_bytes == max(lease.own_bytes, promised)

    @invariant()
    def nobody_inside_waits_for_nobody(self) -> None:
        """Who waits inside a job waits for somebody beside him, or for his turn behind one who does."""
        leases = self.leases()
        for lease in leases.values():
            if not lease.is_granted and lease.parent_id in leases:
                beside = [each for each in leases.values() if each.parent_id == lease.parent_id]
                assert any(each.is_granted for each in beside)

    def teardown(self) -> None:
        for book in self.books:
            book.close()
        self.folder.cleanup()


TestNested = NestedMachine.TestCase
TestNested.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
