"""The sentinel: looks at the machine up to a hundred times a second and does what the ladder says.

Comes in: the machine, the ledger and the board. Goes out: what it sees, for all to read; signals to jobs' trees; what
was done and what came of it. One for a domain, started by whoever has a lease there (`memguard.guard.spawn`) and gone
soon after the last one. What it is about to do stands on the board before, so that another one can go on where it was
killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from memguard.errors import LedgerError
from memguard.guard.gauges import Gauges, LimitNow
from memguard.guard.journal import Journal
from memguard.guard.ladder import Ladder
from memguard.guard.orders import Orders
from memguard.guard.pools import parted, pool_steps
from memguard.guard.pressure import Pressure, PressureNow
from memguard.guard.rungs import Job, Machine, Step, shuts_gate
from memguard.guard.scribe import Scribe
from memguard.guard.single import SentinelLock
from memguard.guard.trees import Trees
from memguard.guard.wake import Wake
from memguard.host import identify
from memguard.host.quarters import lock_memory, settle_in
from memguard.host.watcher import MachineWatcher
from memguard.ledger.beacon import Beacon, Sight, domain_file
from memguard.ledger.board import Ask, Entry
from memguard.ledger.book import boot_seconds
from memguard.ledger.reader import LedgerReader
from memguard.ledger.records import Action, Bound, Lease, Room
from memguard.ledger.room import room_in, scope_of_limit
from memguard.ledger.seat import SIGHT

__all__ = ["Sentinel", "main", "watch"]

_SETTLE_EVERY_S: Final = 1.0
_SWEEP_EVERY_S: Final = 5.0
# A step's effect is measured this much later: a tree of a GiB needs a tenth of a second to end.
_EFFECT_AFTER_S: Final = 0.5
_AFTER_FAULT_S: Final = 0.2
# All is looked at this often at least; and what must be looked at more often than this is not calm.
_LONGEST_SLEEP_S: Final = 1.0
_SHORTEST_CALM_S: Final = 0.02
# Of the smallest limit: jobs are measured again when as much is used more or less.
_CHANGE: Final = 0.01
_SHARE: Final = "MEMGUARD_CAPACITY"
_RUNGS: Final = {Ask.NOTHING: "thawed"}
_EVENTS: Final = {Ask.NOTHING: "memguard.job_released", Ask.KILL: "memguard.job_killed"}


class Sentinel:
    """Watches one domain until `close`. For one thread.

    Args:
        orders: what to watch.
        journal: where events go.

    Raises:
        LedgerError: if the ledger cannot be used.
        OSError: if its files cannot be had.
    """

    def __init__(self, orders: Orders, journal: Journal) -> None:
        self._orders, self._journal = orders, journal
        self._me = identify()
        self._watcher = MachineWatcher(scope=orders.scope)
        self._reading = self._watcher.look()
        self._reader = LedgerReader(orders.folder)
        self._beacon = Beacon(domain_file(orders.folder, SIGHT, orders.domain))
        self._scribe = Scribe(orders.folder, self._room, self._tell_fault)
        self._gauges, self._ladder, self._trees = Gauges(), Ladder(), Trees()
        self._effects: list[_Effect] = []
        self._state = Pressure.NORMAL
        self._told_faults: set[str] = set()
        self._measured_at: list[int] = []
        self._least_bytes = 0.0
        self._seen: Sequence[tuple[Lease, Entry]] = ()
        self._looked_s = self._last_lease_s = self._settled_s = boot_seconds()

    def run(self, wake: Wake, lock: SentinelLock) -> None:
        """Watch until there was no lease for long enough, somebody says stop, or another one watches."""
        while not wake.is_stopped and not self._is_over and not lock.is_replaced:
            try:
                wait_s = self.look()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next look may be better than no look
                self._tell_fault(error)
                self._settle(boot_seconds())  # else the leases of the dead would keep it here for ever
                wait_s = _AFTER_FAULT_S
            self._sleep(wake, wait_s)

    def _sleep(self, wake: Wake, wait_s: float) -> None:
        """Sleep until the next look is due; while nothing happens a glance at the machine stands in for most looks."""
        until_s = boot_seconds() + _LONGEST_SLEEP_S
        wake.wait(wait_s)
        is_calm = self._state is Pressure.NORMAL and wait_s > _SHORTEST_CALM_S
        while is_calm and not wake.is_stopped and boot_seconds() + wait_s < until_s:
            if self._watcher.has_moved(self._least_bytes):
                return
            wake.wait(wait_s)

    @property
    def _is_over(self) -> bool:
        linger_s = self._orders.linger_s
        return linger_s is not None and self._looked_s - self._last_lease_s > linger_s

    def look(self) -> float:
        """Look once, and act; returns the seconds until the next look."""
        now_s = self._looked_s = boot_seconds()
        self._reading = self._watcher.look()
        everyone = self._jobs(now_s)
        jobs, pools = parted(everyone)
        before, self._reading = self._reading, self._watcher.look()
        limits = list(self._limits(everyone, {each.path: each.used_bytes for each in before.limits}))
        self._least_bytes = _CHANGE * min(each.capacity_bytes for each in limits)
        pressure, limit = self._gauges.observe(now_s, limits, may_burst=_may_burst(jobs))
        self._tell_pressure(pressure, limit)
        machine = Machine(limit.capacity_bytes, limit.available_bytes)
        others = self._is_another_over(limit)
        for step in pool_steps(pressure.state, pressure.used_fraction, pools):
            self._carry_out(step, now_s)
        for step in self._ladder.step(now_s, pressure, jobs, machine, others_over=others):
            self._carry_out(step, now_s)
        self._finish(everyone, now_s)
        is_shut = shuts_gate(pressure.state, jobs, others_over=others)
        self._beacon.write(self._sight(now_s, pressure, limit, jobs, is_shut))
        self._settle(now_s)
        return pressure.next_look_s

    # What is there.

    def _jobs(self, now_s: float) -> list[Job]:
        """Return the jobs of this domain that hold memory, what is inside of another one left out."""
        try:
            self._seen = self._reader.look()
        except LedgerError as error:  # those that were there last are as good a guess as any
            self._tell_fault(error)
        here = [(lease, entry) for lease, entry in self._seen if lease.domain == self._orders.domain]
        if any(not lease.is_pool for lease, _ in here):  # for caches alone nobody needs to watch
            self._last_lease_s = now_s
        top = [(lease, entry) for lease, entry in self._top() if lease.domain == self._orders.domain]
        self._trees.keep(top)
        self._trees.take_over(top)
        self._free_ledger()
        blocks = Counter(lease.owner.pid for lease, entry in top if not (entry.root_pid or lease.is_pool))
        anew = self._has_changed()
        return [self._measured(lease, entry, anew, blocks[lease.owner.pid] > 1) for lease, entry in top]

    def _has_changed(self) -> bool:
        """Whether enough is used more or less than when jobs were measured last; always while memory is short."""
        used = [limit.used_bytes for limit in self._reading.limits]
        moved = len(used) != len(self._measured_at) or any(
            abs(now - then) > self._least_bytes for now, then in zip(used, self._measured_at, strict=True)
        )
        if moved or self._state >= Pressure.RECOVERING:
            self._measured_at = used
            return True
        return False

    def _top(self) -> list[tuple[Lease, Entry]]:
        known = {lease.lease_id for lease, _ in self._seen}
        return [
            (lease, entry) for lease, entry in self._seen if lease.is_granted and lease.parent_id not in known
        ]

    def _measured(self, lease: Lease, entry: Entry, anew: bool, shares_owner: bool) -> Job:
        if lease.is_pool:  # what it tells is what it can give back
            return Job(lease, entry)
        used = self._trees.used_bytes(lease, entry, anew=anew, shares_owner=shares_owner)
        return Job(lease if used == lease.used_bytes else replace(lease, used_bytes=used), entry)

    def _limits(self, jobs: Sequence[Job], before: Mapping[str, int]) -> Iterator[LimitNow]:
        """Give each limit that holds here, with what was promised below it; ``before``: its use ahead of the jobs'."""
        own = [job.lease for job in jobs]
        others = [lease for lease, _ in self._top() if lease.domain != self._orders.domain]
        for limit in self._reading.limits:
            bound = Bound(scope_of_limit(limit), limit.free_bytes)
            below = [*own, *(lease for lease in others if bound.covers(lease.domain))]
            now = _limit_now(limit.path, limit.limit_bytes, limit.used_bytes, below)
            most = max(limit.used_bytes, before.get(limit.path, limit.used_bytes))
            moved = most - min(limit.used_bytes, before.get(limit.path, limit.used_bytes))
            yield replace(now, used_bytes=most, doubt_bytes=moved + 2 * int(self._least_bytes))
        if self._orders.capacity is not None:
            share = self._orders.capacity.resolve(self._reading.capacity_bytes)
            used = sum(lease.used_bytes for lease in own)
            yield _limit_now(_SHARE, share, used, own)

    def _is_another_over(self, limit: LimitNow) -> bool:
        """Whether a job of another domain, which shares this limit, is over its reservation."""
        if limit.name == _SHARE:
            return False
        scopes = (scope_of_limit(each) for each in self._reading.limits if each.path == limit.name)
        bound = Bound(next(scopes, ""), 0)
        return any(
            lease.domain != self._orders.domain
            and lease.overrun_bytes > 0
            and not lease.is_pool
            and bound.covers(lease.domain)
            for lease, _ in self._top()
        )

    def _room(self) -> Room:
        """Return what there is for leases, from the last look."""
        return replace(room_in(self._reading, self._orders), domain=self._orders.domain)

    def _sight(
        self, now_s: float, pressure: PressureNow, limit: LimitNow, jobs: Sequence[Job], is_shut: bool
    ) -> Sight:
        return Sight(
            now_s, self._me.pid, self._me.start_ticks, int(pressure.state), pressure.since_s,
            pressure.used_fraction, limit.capacity_bytes, limit.available_bytes, limit.promised_bytes,
            pressure.fill_bytes_per_s, pressure.time_to_full_s, pressure.next_look_s, len(jobs), int(is_shut),
        )  # fmt: skip

    # What is done.

    def _carry_out(self, step: Step, now_s: float) -> None:
        """Do one step. Who is stopped stands on the board before and until after, for whoever must take over."""
        lease = step.lease
        if step.ask is Ask.NOTHING:
            self._trees.thaw(lease)
        if not self._reader.ask(lease, step.ask, now_s):
            return  # it has ended
        if step.ask in (Ask.FROZEN, Ask.KILL):
            self._freeze(lease)
        rung = _RUNGS.get(step.ask, step.ask.name.lower())
        action = Action(
            lease.lease_id,
            lease.name,
            rung,
            step.why,
            lease.used_bytes,
            lease.reserved_bytes,
            None,
            now_s,
            time.time(),
        )
        self._journal.write(
            _EVENTS.get(step.ask, "memguard.job_throttled"),
            lease.lease_id,
            name=lease.name,
            rung=rung,
            why=step.why,
            used_bytes=lease.used_bytes,
            reserved_bytes=lease.reserved_bytes,
        )
        self._effects.append(_Effect(now_s + _EFFECT_AFTER_S, self._scribe.note(action), lease, rung))

    def _freeze(self, lease: Lease) -> None:
        self._trees.freeze(lease)
        self._free_ledger()

    def _free_ledger(self) -> None:
        """Let whoever was stopped in the midst of a transaction finish it: all others would wait for him."""
        for tree in self._trees.frozen():
            if writer := self._reader.writer():
                tree.let_finish(writer, lambda: self._reader.writer() == writer)

    def _finish(self, jobs: Sequence[Job], now_s: float) -> None:
        """Kill whom their guards did not, and write down what came of earlier steps."""
        entries = [(job.lease, job.entry) for job in jobs]
        for lease in self._trees.kill_overdue(entries, now_s):
            self._journal.write("memguard.job_killed", lease.lease_id, name=lease.name, rung="sigkill")
        due = [effect for effect in self._effects if effect.due_s <= now_s]
        if due:
            self._effects = [effect for effect in self._effects if effect.due_s > now_s]
            used = {job.lease.lease_id: job.lease.used_bytes for job in jobs}
            for effect in due:
                freed = max(0, effect.lease.used_bytes - used.get(effect.lease.lease_id, 0))
                self._scribe.note_effect(effect.key, freed)
                self._journal.write(
                    "memguard.relief_measured", effect.lease.lease_id, rung=effect.rung, freed_bytes=freed
                )

    def _settle(self, now_s: float) -> None:
        """Let go of the dead, and grant what other programs gave back: that rings nowhere."""
        somebody_waits = any(not lease.is_granted for lease, _ in self._seen)
        if now_s - self._settled_s >= (_SETTLE_EVERY_S if somebody_waits else _SWEEP_EVERY_S) and self._seen:
            self._settled_s = now_s
            self._scribe.settle()

    def _tell_pressure(self, pressure: PressureNow, limit: LimitNow) -> None:
        if pressure.state is not self._state:
            self._state = pressure.state
            self._journal.write(
                "memguard.pressure_changed",
                state=pressure.state.name.lower(),
                limit=limit.name,
                used_fraction=round(pressure.used_fraction, 4),
                capacity_bytes=limit.capacity_bytes,
                fill_bytes_per_s=round(pressure.fill_bytes_per_s),
            )

    def _tell_fault(self, error: Exception) -> None:
        told = f"{type(error).__name__}: {error}"
        if told not in self._told_faults:  # once: it may be so at each look
            self._told_faults.add(told)
            self._journal.write("memguard.guard_degraded", fault=f"the sentinel met {told}")

    def close(self) -> None:
        """Let everybody go on who is stopped, and close all."""
        with contextlib.suppress(LedgerError):  # then as it was seen last
            self._seen = self._reader.look()
        for lease, entry in self._seen:
            if entry.asked is Ask.FROZEN and lease.domain == self._orders.domain:
                self._trees.thaw(lease)
                self._reader.ask(lease, Ask.NOTHING, boot_seconds())
                self._journal.write(
                    "memguard.job_released", lease.lease_id, name=lease.name, why="its sentinel ends"
                )
        self._trees.close()
        self._scribe.close()
        self._beacon.close()
        self._reader.close()
        self._watcher.close()


@dataclass(frozen=True, slots=True)
class _Effect:
    """A step whose effect is to be measured."""

    due_s: float
    key: int
    lease: Lease
    rung: str


def _may_burst(jobs: Sequence[Job]) -> bool:
    """Whether one of them is not held to its reservation by its own guard, or may not be one of them yet."""
    return not jobs or any(
        not job.is_enforced or not 0 < job.entry.limit_bytes <= job.lease.reserved_bytes for job in jobs
    )


def _limit_now(name: str, limit_bytes: int, used_bytes: int, leases: Sequence[Lease]) -> LimitNow:
    promised = sum(lease.outstanding_bytes for lease in leases)
    inside = sum(lease.inside_bytes for lease in leases)
    return LimitNow(name, limit_bytes, used_bytes, promised, inside)


def watch(orders: Orders, journal: Journal, lock: SentinelLock, wake: Wake) -> None:
    """Watch as `orders` say, holding the lock, and give it back at the end.

    Raises:
        LedgerError: if the ledger cannot be used.
    """
    try:
        sentinel = Sentinel(orders, journal)
        try:
            journal.write("memguard.sentinel_started", pid=os.getpid(), domain=orders.domain)
            sentinel.run(wake, lock)
        finally:
            sentinel.close()
            journal.write("memguard.sentinel_ended", pid=os.getpid(), domain=orders.domain)
    finally:
        lock.release()


def main(fields: Mapping[str, Any]) -> None:
    """Be a sentinel that was started on demand; does nothing where another one watches already."""
    orders = Orders.from_json(fields)
    lock = SentinelLock.take(domain_file(orders.folder, "sentinel.lock", orders.domain))
    if lock is None:
        return
    settle_in()
    lock_memory()
    journal = Journal(domain_file(orders.folder, "sentinel.log", orders.domain))
    with Wake((signal.SIGTERM, signal.SIGINT, signal.SIGHUP)) as wake:
        try:
            watch(orders, journal, lock, wake)
        except (LedgerError, OSError) as error:  # who started it does not hear of it
            journal.write("memguard.guard_degraded", fault=f"the sentinel could not begin: {error}")
            raise
