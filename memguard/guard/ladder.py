"""What is asked of whom while memory is short, rung by rung. Pure: a look at the machine and its jobs in, steps out.

Comes in: how short memory is, each lease with what stands on the board for it. Goes out: what to ask of which lease,
and in a sentence why now and why this one. What was asked and since when stands on the board, so whoever takes the work
over from a dead sentinel goes on where that one was. Only who is over his reservation is held while anybody is, unless
the kernel would kill somebody otherwise; nobody is held for ever; and the last who could finish is not held at all.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from memguard.guard.pressure import Lines, Pressure, PressureNow
from memguard.guard.rungs import Deadlines, Job, Machine, Step
from memguard.guard.victims import choose_victims, in_order_of_blame
from memguard.ledger.board import Ask, Entry
from memguard.units import MIB, format_bytes, format_share

__all__ = ["Ladder"]

# A job grows that took as much as this within the last half second; less is what any program does.
_GROWTH_BYTES: Final = MIB // 4
_GROWTH_LASTS_S: Final = 0.5
_SPEED_OVER_S: Final = 0.06
# What one that outgrew its reservation may take next, as a part of what it has.
_LIKELY_GROWTH: Final = 0.25


class _Growth:
    """Whether a job's use grows."""

    def __init__(self, now_s: float, used_bytes: int) -> None:
        # Of whom nothing is known the worst is believed.
        self._used, self._grew_s = used_bytes, now_s

    def observe(self, now_s: float, used_bytes: int) -> None:
        if used_bytes >= self._used + _GROWTH_BYTES:
            self._used, self._grew_s = used_bytes, now_s
        self._used = min(self._used, used_bytes)

    def is_on(self, now_s: float) -> bool:
        return now_s - self._grew_s < _GROWTH_LASTS_S


class _Speed:
    """How fast use grows at this moment: over the last looks, and nothing once a look sees no growth."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=16)

    def observe(self, now_s: float, used_bytes: int) -> float:
        if self._seen and used_bytes < self._seen[-1][1] + _GROWTH_BYTES:
            self._seen.clear()
        while self._seen and now_s - self._seen[0][0] > _SPEED_OVER_S:
            self._seen.popleft()
        self._seen.append((now_s, used_bytes))
        since_s, before = self._seen[0]
        return (used_bytes - before) / (now_s - since_s) if now_s > since_s else 0.0


@dataclass(slots=True)
class _Kill:
    """A kill that was asked for, and when its job was first seen without memory."""

    at_s: float
    root: tuple[int, int]
    gone_s: float = math.inf


class Ladder:
    """The state machine. One for a domain; told of every look.

    Args:
        lines: those of the gauge.
        deadlines: how long each rung is given.
    """

    def __init__(self, lines: Lines | None = None, deadlines: Deadlines | None = None) -> None:
        self._lines, self._deadlines = lines or Lines(), deadlines or Deadlines()
        self._growth: dict[str, _Growth] = {}
        self._kills: dict[str, _Kill] = {}
        self._speed = _Speed()
        self._line_since_s = self._brink_since_s = math.inf
        self._held_s = self._let_go_s = -math.inf
        self._now_s = 0.0
        self._pressure = PressureNow(Pressure.NORMAL, 0.0, 0.0, 0.0, math.inf, 1.0)
        self._machine = Machine(1, 1)
        self._jobs: dict[str, Job] = {}
        self._others_over = False
        self._steps: list[Step] = []

    def step(
        self,
        now_s: float,
        pressure: PressureNow,
        jobs: Iterable[Job],
        machine: Machine,
        *,
        others_over: bool = False,
    ) -> tuple[Step, ...]:
        """Decide what to do now.

        Args:
            now_s: seconds since boot, the clock of the board.
            pressure: what the gauge says.
            jobs: all that hold memory of this domain, what is inside of another job left out.
            machine: the limit that is shortest.
            others_over: whether a job of another domain that shares this limit is over its reservation.
        """
        self._now_s, self._pressure, self._machine = now_s, pressure, machine
        self._jobs = {job.lease.lease_id: job for job in jobs if job.lease.is_granted}
        self._others_over, self._steps = others_over, []
        self._observe()
        self._forget_former_attempts()
        if pressure.state >= Pressure.HIGH:
            self._ask_to_give_back()
        elif pressure.state <= Pressure.ELEVATED:
            self._take_back()
        if pressure.state is Pressure.CRITICAL:
            self._brake()
            self._ask_cooperative()
            self._kill_or_hold()
        self._let_go()
        return tuple(self._steps)

    # What is so.

    def _observe(self) -> None:
        now_s, machine = self._now_s, self._machine
        for lease_id, job in self._jobs.items():
            growth = self._growth.setdefault(lease_id, _Growth(now_s, job.lease.used_bytes))
            growth.observe(now_s, job.lease.used_bytes)
        self._growth = {lease_id: self._growth[lease_id] for lease_id in self._jobs}
        speed = self._speed.observe(now_s, machine.used_bytes)
        left_s = machine.available_bytes / speed if speed > 0 else math.inf
        fraction = self._pressure.used_fraction
        # At full speed the critical line is passed, and all that is above it, between two looks.
        is_rushing = fraction >= self._lines.high and left_s < self._deadlines.brink_s
        at_line = fraction >= self._lines.critical or is_rushing
        at_brink = fraction >= self._deadlines.brink or is_rushing
        self._line_since_s = min(self._line_since_s, now_s) if at_line else math.inf
        self._brink_since_s = min(self._brink_since_s, now_s) if at_brink else math.inf
        self._observe_kills()

    def _observe_kills(self) -> None:
        for lease_id, job in self._jobs.items():
            if job.entry.asked is Ask.KILL and lease_id not in self._kills:
                self._kills[lease_id] = _Kill(job.entry.asked_at_s, _root(job.entry))
        for lease_id, kill in list(self._kills.items()):
            left = self._jobs.get(lease_id)
            if left is None or left.lease.used_bytes == 0:
                kill.gone_s = min(kill.gone_s, self._now_s)
            if left is None and not self._is_awaited(kill):
                del self._kills[lease_id]

    def _is_awaited(self, kill: _Kill) -> bool:
        """Whether the memory that a kill frees may still be on its way."""
        limits = self._deadlines
        return self._now_s - kill.at_s < limits.effect_s and self._now_s - kill.gone_s < limits.seen_s

    @property
    def _is_killing(self) -> bool:
        return any(map(self._is_awaited, self._kills.values()))

    def _grows(self, job: Job) -> bool:
        return self._growth[job.lease.lease_id].is_on(self._now_s)

    def _can_be_held(self, job: Job) -> bool:
        # Who was asked to end needs to go on for that.
        return self._grows(job) and job.entry.asked is not Ask.STOP

    def _runners(self) -> list[Job]:
        return [job for job in self._jobs.values() if job.runs]

    def _by_blame(self, jobs: Iterable[Job]) -> list[Job]:
        return [self._jobs[each.lease_id] for each in in_order_of_blame(job.lease for job in jobs)]

    def _is_anybody_over(self) -> bool:
        return self._others_over or any(job.is_over for job in self._jobs.values())

    def _lasted_s(self, since_s: float) -> float:
        return self._now_s - since_s  # minus infinity where it is not so

    # What is done.

    def _ask(self, job: Job, ask: Ask, why: str) -> None:
        self._steps.append(Step(job.lease, ask, f"{self._why_now()}; {why}"))
        self._jobs[job.lease.lease_id] = replace(
            job, entry=replace(job.entry, asked=ask, asked_at_s=self._now_s)
        )
        if ask is Ask.KILL:
            self._kills[job.lease.lease_id] = _Kill(self._now_s, _root(job.entry))

    def _why_now(self) -> str:
        share = f"{format_share(self._pressure.used_fraction)} of {format_bytes(self._machine.capacity_bytes)} in use"
        if self._pressure.used_fraction < self._lines.critical and math.isfinite(
            self._pressure.time_to_full_s
        ):
            return f"{share}, and none left in {self._pressure.time_to_full_s:.2f} s at this rate"
        return share

    def _forget_former_attempts(self) -> None:
        """Take back what was asked of the tree before this one, where a guard runs its job again in the same lease."""
        for lease_id, kill in list(self._kills.items()):
            job = self._jobs.get(lease_id)
            if job is not None and job.is_enforced and kill.root[0] and kill.root != _root(job.entry):
                del self._kills[lease_id]
                self._ask(job, Ask.NOTHING, "its job runs anew")

    def _ask_to_give_back(self) -> None:
        everybody = self._lasted_s(self._pressure.since_s) >= self._deadlines.shed_all_s
        for job in self._by_blame(self._jobs.values()):
            if job.entry.asked is Ask.NOTHING and (everybody or job.is_over):
                self._ask(job, Ask.SHED, "what can be made again should be given back")

    def _take_back(self) -> None:
        for job in list(self._jobs.values()):
            if job.entry.asked in (Ask.SHED, Ask.LIGHT):
                self._ask(job, Ask.NOTHING, "there is room again")

    def _hold(self, job: Job, why: str) -> None:
        self._ask(job, Ask.FROZEN if job.is_enforced else Ask.WAIT, why)
        self._held_s = self._now_s

    def _brake(self) -> None:
        """Hold those who are over and grow, the largest overrun first, but for the last who could finish."""
        for job in self._by_blame(self._runners()):
            if job.is_over and self._can_be_held(job):
                if len(self._runners()) < 2 and not self._is_killing:
                    return
                self._hold(job, f"it uses {_over(job)}, and still grows")

    def _ask_cooperative(self) -> None:
        limits = self._deadlines
        for job in self._by_blame(self._jobs.values()):
            if job.is_enforced or not job.is_over:
                continue
            asked, for_s = job.entry.asked, self._lasted_s(job.entry.asked_at_s)
            if asked < Ask.LIGHT and self._lasted_s(self._pressure.since_s) >= limits.light_s:
                self._ask(job, Ask.LIGHT, f"it uses {_over(job)}")
            elif asked in (Ask.LIGHT, Ask.WAIT) and for_s >= limits.stop_s and self._is_at_line:
                self._ask(job, Ask.STOP, f"it uses {_over(job)}, and gave nothing back")

    @property
    def _is_at_line(self) -> bool:
        return self._line_since_s <= self._now_s

    @property
    def _is_at_brink(self) -> bool:
        return self._brink_since_s <= self._now_s

    def _kill_or_hold(self) -> None:
        if not self._is_at_line:
            return
        if not self._is_killing:
            if self._is_anybody_over():
                self._kill_over()
            else:
                self._yield_to_others()
        if self._is_killing:
            self._brake()
            if self._is_at_brink:
                # Until it is free, what others take in a millisecond decides whom the kernel kills.
                for job in self._runners():
                    if self._can_be_held(job):
                        self._hold(
                            job, "it grows, and until the memory of a killed job is free there is no room"
                        )

    def _kill_over(self) -> None:
        over = [job for job in self._jobs.values() if job.is_over and job.entry.asked is not Ask.KILL]
        if not over or not (self._is_at_brink or self._is_holding_pointless() or self._is_time_up()):
            return
        wanted = self._machine.used_bytes - int(self._lines.high * self._machine.capacity_bytes)
        for victim in choose_victims((job.lease for job in over), max(1, wanted)):
            self._ask(self._jobs[victim.lease.lease_id], Ask.KILL, victim.why)

    def _is_holding_pointless(self) -> bool:
        """Whether nobody is left whose end would make room for the others, nor anybody who could be asked for less."""
        return all(job.is_over and job.is_enforced and self._grows(job) for job in self._runners())

    def _is_time_up(self) -> bool:
        since_s = max(self._line_since_s, self._held_s)
        return self._lasted_s(since_s) >= self._deadlines.kill_s

    def _yield_to_others(self) -> None:
        """Make way for other programs: the newest wait, and at the brink one ends."""
        order = self._by_blame(self._runners())
        since_s = max(self._line_since_s, self._held_s)
        if len(order) > 1 and self._lasted_s(since_s) >= self._deadlines.pause_s:
            self._hold(
                order[0],
                "no job is over its reservation, other programs are; it is the newest or least urgent",
            )
        if self._lasted_s(max(self._brink_since_s, self._held_s)) >= self._deadlines.brink_kill_s:
            alive = [job.lease for job in self._jobs.values() if job.entry.asked is not Ask.KILL]
            for victim in choose_victims(alive, 1):
                self._ask(self._jobs[victim.lease.lease_id], Ask.KILL, victim.why)

    # And taken back.

    def _let_go(self) -> None:
        """Let one of those who are held go on, or end the one whose time is up; one at a time."""
        held = sorted((job for job in self._jobs.values() if job.is_held), key=_turn)
        if not held or self._is_killing or self._lasted_s(self._let_go_s) < self._deadlines.pause_s:
            return
        first, nobody_runs = held[0], not self._runners()
        if self._pressure.state <= Pressure.RECOVERING and (nobody_runs or self._fits(first)):
            self._release(first, "there is room for it again")
        elif nobody_runs and not self._is_at_line and self._was_held(first, self._deadlines.pause_s):
            self._release(first, "nobody else is left who could make room")
        else:
            self._end_waiting(held)

    def _was_held(self, job: Job, for_s: float) -> bool:
        return self._lasted_s(job.entry.asked_at_s) >= for_s

    def _release(self, job: Job, why: str) -> None:
        self._ask(job, Ask.NOTHING, why)
        self._let_go_s = self._now_s

    def _fits(self, job: Job) -> bool:
        machine, lines = self._machine, self._lines
        if job.is_over:
            likely = int(job.lease.used_bytes * _LIKELY_GROWTH)
            return machine.used_bytes + likely <= lines.elevated * machine.capacity_bytes
        promised = sum(each.lease.outstanding_bytes for each in (job, *self._runners()))
        return machine.used_bytes + promised <= lines.high * machine.capacity_bytes

    def _end_waiting(self, held: Sequence[Job]) -> None:
        expired = [job for job in held if self._was_held(job, self._deadlines.frozen_limit_s)]
        if not expired:
            return
        job = self._by_blame(expired)[0]
        if not job.is_over and (not self._is_at_line or self._is_anybody_over()):
            self._release(job, "it has waited long enough, and keeps to its reservation")
            return
        over = f"it uses {_over(job)}" if job.is_over else "no job is over its reservation"
        waited = f"it waited {self._deadlines.frozen_limit_s:g} s, and no memory came free"
        self._ask(job, Ask.KILL, f"{over}, and {waited}")


def _turn(job: Job) -> tuple[int, float, str]:
    """By priority, then the oldest first."""
    return -job.lease.priority, job.lease.granted_at_s or 0.0, job.lease.lease_id


def _root(entry: Entry) -> tuple[int, int]:
    return entry.root_pid, entry.root_ticks


def _over(job: Job) -> str:
    lease = job.lease
    return f"{format_bytes(lease.overrun_bytes)} beyond the {format_bytes(lease.reserved_bytes)} reserved"
