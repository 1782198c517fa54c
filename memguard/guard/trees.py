"""The jobs' process trees as the sentinel acts on them: what each uses by its own measure, stopped, continued, killed.

Comes in: leases with what stands on the board. Goes out: their use now, and signals. A guard may tell its job's use as
seldom as four times a second, which is too late for a burst: here it is read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from memguard.host.job_tree import JobTree
from memguard.host.process import private_bytes_of
from memguard.ledger.board import Ask, Entry
from memguard.ledger.records import Lease

__all__ = ["Trees"]

# Its guard looks four times a second, and has some way to go until the signal is out.
_GUARD_HAS_S: Final = 1.0


class _Drift:
    """What was told at times, followed in between by a figure that is read at any time and differs by a constant.

    Down as well as up: the machine's own figure falls at once, and the difference would look like memory that somebody
    takes whom nobody promised any, at the moment when it is told at last.
    """

    def __init__(self) -> None:
        self._told, self._base = -1, 0

    def follow(self, told: int, measured: int) -> int:
        if told != self._told:
            self._told, self._base = told, measured
        return max(0, told + measured - self._base)


class Trees:
    """One `JobTree` for each lease that has one. Owns descriptors until `close`."""

    def __init__(self) -> None:
        self._trees: dict[str, JobTree] = {}
        self._drifts: dict[str, _Drift] = {}
        self._frozen: set[str] = set()
        # Whose processes were seen: where there is none any more nothing is used, whatever was told before.
        self._met: set[str] = set()
        # What was told and what was measured then.
        self._last: dict[str, tuple[int, int]] = {}

    def keep(self, jobs: Sequence[tuple[Lease, Entry]]) -> None:
        """Know the trees of these leases and no others; who is stopped and has no lease any more goes on."""
        there = {lease.lease_id: (lease, entry) for lease, entry in jobs}
        for lease_id, tree in list(self._trees.items()):
            known = there.get(lease_id)
            if known is None or tree.root != _root(known[1]):
                self._forget(lease_id)
        for lease_id, (lease, entry) in there.items():
            if entry.root_pid and lease_id not in self._trees:
                self._trees[lease_id] = JobTree(*_root(entry), guards=(lease.owner.pid,))
        self._drifts = {lease_id: self._drifts.get(lease_id) or _Drift() for lease_id in there}
        self._last = {lease_id: last for lease_id, last in self._last.items() if lease_id in there}
        self._met &= there.keys()

    def _forget(self, lease_id: str) -> None:
        tree = self._trees.pop(lease_id)
        if lease_id in self._frozen:
            self._frozen.discard(lease_id)
            tree.go_on()
        tree.close()

    def used_bytes(self, lease: Lease, entry: Entry, *, anew: bool, shares_owner: bool) -> int:
        """Return what a job uses now.

        Args:
            lease: one of those given to `keep`.
            entry: what stands on the board for it.
            anew: whether to measure it; else what was measured or told last will do.
            shares_owner: whether its owner has other leases of work in his own process: then nobody can tell whose a
                growth of that process is.
        """
        last = self._last.get(lease.lease_id)
        if not anew and last is not None:
            return last[1] if last[0] == entry.used_bytes else entry.used_bytes
        used = self._measure(lease, entry, shares_owner=shares_owner)
        self._last[lease.lease_id] = entry.used_bytes, used
        return used

    def _measure(self, lease: Lease, entry: Entry, *, shares_owner: bool) -> int:
        tree = self._trees.get(lease.lease_id)
        if tree is None:
            measured = None if shares_owner else private_bytes_of(lease.owner.pid)
            return entry.used_bytes if measured is None else self._follow(lease, entry, measured)
        used = tree.fence_bytes()
        if used is None:
            measured = tree.private_bytes()
            is_over = not measured and lease.lease_id in self._met
            used = 0 if is_over else self._follow(lease, entry, measured)
        self._met |= {lease.lease_id} if used else set()
        return used

    def _follow(self, lease: Lease, entry: Entry, measured: int) -> int:
        return self._drifts[lease.lease_id].follow(entry.used_bytes, measured)

    def freeze(self, lease: Lease) -> None:
        """Stop a job's tree, if it has one."""
        tree = self._trees.get(lease.lease_id)
        if tree is not None:
            self._frozen.add(lease.lease_id)
            tree.stop()

    def frozen(self) -> list[JobTree]:
        """Return the trees that are stopped."""
        return [self._trees[lease_id] for lease_id in self._frozen if lease_id in self._trees]

    def thaw(self, lease: Lease) -> None:
        """Let a job's tree go on."""
        self._frozen.discard(lease.lease_id)
        if lease.lease_id in self._trees:
            self._trees[lease.lease_id].go_on()

    def take_over(self, jobs: Iterable[tuple[Lease, Entry]]) -> None:
        """Stop again what stands as frozen on the board: whoever wrote that may have died before he did it."""
        for lease, entry in jobs:
            if entry.asked is Ask.FROZEN and lease.lease_id not in self._frozen:
                self.freeze(lease)

    def kill_overdue(self, jobs: Iterable[tuple[Lease, Entry]], now_s: float) -> list[Lease]:
        """Kill the trees that were to be killed by their guard and live on; returns their leases."""
        killed = []
        for lease, entry in jobs:
            tree = self._trees.get(lease.lease_id)
            is_due = entry.asked is Ask.KILL and now_s - entry.asked_at_s >= _GUARD_HAS_S
            if is_due and tree is not None and tree.pids():
                tree.kill()
                killed.append(lease)
        return killed

    def close(self) -> None:
        """Let everybody who is stopped go on, and close the descriptors."""
        for lease_id in list(self._trees):
            self._forget(lease_id)


def _root(entry: Entry) -> tuple[int, int]:
    return entry.root_pid, entry.root_ticks
