"""The ladder: who is asked for what when memory gets short, held as a model of a machine whose jobs grow."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from memguard.guard.ladder import Ladder
from memguard.guard.pressure import Pressure, PressureGauge, PressureNow
from memguard.guard.rungs import Deadlines, Job, Machine, Step
from memguard.host.readings import ProcessIdentity
from memguard.ledger.board import Ask, Entry
from memguard.ledger.records import Lease
from memguard.units import MIB

OWNER = ProcessIdentity("here", "boot", 1, 1)
CAPACITY = 1000 * MIB
LIMITS = Deadlines()


def job(
    name: str, reserved: int, used: int, *, asked: Ask = Ask.NOTHING, since: float = 1.0, priority: int = 0,
    cooperative: bool = False, asked_at: float = 0.0,
) -> Job:  # fmt: skip
    """Return a running job with so many MiB."""
    lease = Lease(name, OWNER, name, reserved * MIB, used * MIB, priority, since, since, "", 0, 0)
    root = 0 if cooperative else sum(name.encode())
    return Job(lease, Entry(used * MIB, used * MIB, asked, asked_at, root, root))


@dataclass
class Model:
    """A machine whose jobs take what they are told to take, and obey what is asked of them."""

    jobs: dict[str, Job]
    others: int = 0
    obeys: bool = True
    now_s: float = 100.0
    ladder: Ladder = field(default_factory=Ladder)
    gauge: PressureGauge = field(default_factory=PressureGauge)
    history: list[Step] = field(default_factory=list)
    dying: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, *jobs: Job, others: int = 0, obeys: bool = True) -> Model:
        return cls({each.lease.lease_id: each for each in jobs}, others, obeys)

    @property
    def used(self) -> int:
        return self.others * MIB + sum(each.lease.used_bytes for each in self.jobs.values())

    def grow(self, name: str, mib: int) -> None:
        """Let a job take more, or give back, unless it is held."""
        if name in self.jobs and not self.jobs[name].is_held and name not in self.dying:
            self._use(name, max(0, self.jobs[name].lease.used_bytes + mib * MIB))

    def _use(self, name: str, used: int) -> None:
        at = self.jobs[name]
        self.jobs[name] = replace(
            at, lease=replace(at.lease, used_bytes=used), entry=replace(at.entry, used_bytes=used)
        )

    def look(self, after_s: float = 0.1) -> tuple[Step, ...]:
        """Let time pass, look, and do what the ladder says; holds what must hold at every step."""
        self.now_s += after_s
        self._bury()
        promised = sum(each.lease.outstanding_bytes for each in self.jobs.values())
        inside = sum(each.lease.inside_bytes for each in self.jobs.values())
        pressure = self.gauge.observe(self.now_s, self.used, promised, inside, CAPACITY)
        before = dict(self.jobs)
        steps = self.ladder.step(
            self.now_s, pressure, self.jobs.values(), Machine(CAPACITY, CAPACITY - self.used)
        )
        for step in steps:
            self._carry_out(step)
        self._check(before, steps)
        self.history += steps
        return steps

    def _bury(self) -> None:
        for name, at_s in list(self.dying.items()):
            if self.obeys and self.now_s - at_s > 0.2:
                del self.dying[name], self.jobs[name]

    def _carry_out(self, step: Step) -> None:
        name = step.lease.lease_id
        at = self.jobs[name]
        self.jobs[name] = replace(at, entry=replace(at.entry, asked=step.ask, asked_at_s=self.now_s))
        if step.ask is Ask.KILL:
            self.dying[name] = self.now_s

    def _check(self, before: dict[str, Job], steps: Iterable[Step]) -> None:
        killed = [before[step.lease.lease_id] for step in steps if step.ask is Ask.KILL]
        if any(each.is_over for each in before.values()):
            assert all(each.is_over for each in killed), "one died who kept to its reservation"
        if any(step.ask in (Ask.WAIT, Ask.FROZEN) for step in steps) and not self.dying:
            assert any(each.runs for each in self.jobs.values()), "nobody is left who could finish"
        assert all(step.why and not step.why.endswith(".") for step in steps)

    def asked(self, name: str) -> Ask:
        return self.jobs[name].entry.asked

    def run(self, seconds: float, *, every_s: float = 0.1, until: Callable[[], bool] = lambda: False) -> bool:
        """Look again and again; returns whether what was waited for came."""
        for _ in range(int(seconds / every_s)):
            self.look(every_s)
            if until():
                return True
        return until()


def asks(steps: Iterable[Step]) -> list[tuple[str, Ask]]:
    return [(step.lease.name, step.ask) for step in steps]


@pytest.mark.requirement("R6.2", "T5.2")
def test_high_use_asks_those_who_are_over_first_and_then_all() -> None:
    """Who holds most beyond its reservation is asked to give back at once, the others a second later."""
    model = Model.of(job("honest", 400, 400), job("over", 100, 520))
    assert asks(model.look()) == [("over", Ask.SHED)]
    assert model.run(2, until=lambda: model.asked("honest") is Ask.SHED)
    model.others = -400
    assert model.run(5, until=lambda: model.asked("over") is Ask.NOTHING)
    assert model.asked("honest") is Ask.NOTHING


@pytest.mark.requirement("R6.2", "T5.2")
def test_who_is_over_and_grows_is_held_at_once_and_let_go_when_there_is_room() -> None:
    """The over-user stops while another can finish; after that one's end it goes on."""
    model = Model.of(job("honest", 400, 300), job("over", 100, 400))
    model.look()
    for _ in range(10):
        model.grow("over", 40)
        model.look(0.05)
    assert model.asked("over") is Ask.FROZEN
    assert model.asked("honest") < Ask.WAIT
    model.grow("honest", -300)
    del model.jobs["honest"]
    assert model.run(10, until=lambda: model.asked("over") is Ask.NOTHING)
    assert Ask.KILL not in dict(asks(model.history)).values()


def test_the_largest_overrun_is_held_first_and_the_last_runner_never() -> None:
    """Of several who are over and grow all but the least are held: somebody must be able to finish."""
    model = Model.of(*(job(f"over {mib}", 10, mib) for mib in (100, 200, 300)))
    model.look()
    for _ in range(10):
        for name in list(model.jobs):
            model.grow(name, 10)
        model.look(0.05)
    assert {name for name, ask in asks(model.history) if ask is Ask.FROZEN} == {"over 200", "over 300"}
    assert next(name for name, ask in asks(model.history) if ask is Ask.FROZEN) == "over 300"


@pytest.mark.requirement("R6.2")
def test_one_that_is_alone_is_killed_at_the_line_and_not_before() -> None:
    """Holding a job that nobody makes room for is pointless; before the line it may still stop by itself."""
    model = Model.of(job("over", 100, 500))
    model.look()
    for _ in range(9):
        model.grow("over", 45)
        assert model.look(0.05) == () or model.asked("over") <= Ask.SHED
    model.grow("over", 90)
    assert asks(model.look(0.05)) == [("over", Ask.KILL)]
    assert "beyond the 100 MiB reserved" in model.history[-1].why
    assert "in use" in model.history[-1].why


def test_at_the_brink_nothing_waits_for_a_deadline() -> None:
    """Between the last line and the kernel the over-user dies at once, and who grows waits until that is seen."""
    model = Model.of(job("honest", 500, 300), job("over", 100, 500))
    model.look(1)
    model.grow("honest", 100)
    model.look()
    model.grow("honest", 85)
    assert asks(model.look())[-2:] == [("over", Ask.KILL), ("honest", Ask.FROZEN)]
    assert model.run(5, until=lambda: model.asked("honest") is Ask.NOTHING)
    assert "over" not in model.jobs


def test_a_kill_is_given_time_to_be_seen() -> None:
    """No second one dies while the memory of the first is on its way; when it does not come, the next one's turn is."""
    model = Model.of(job("a", 10, 490), job("b", 10, 480), obeys=False)
    model.look()
    assert model.run(LIMITS.kill_s + 1, until=lambda: bool(model.dying))
    assert list(model.dying) == ["a"]
    model.run(LIMITS.effect_s - 1)
    assert list(model.dying) == ["a"]
    model.run(LIMITS.kill_s + 1)
    assert list(model.dying) == ["a", "b"]


@pytest.mark.requirement("R6.2", "T5.2")
def test_cooperative_ones_are_asked_to_wait_then_to_end_then_are_given_up() -> None:
    """Work inside somebody's own process is never stopped by force: it is asked, more firmly each time."""
    model = Model.of(job("block", 100, 500, cooperative=True), job("honest", 400, 390))
    model.look()
    for _ in range(6):
        model.grow("block", 10)
        model.look(0.05)
    assert model.asked("block") is Ask.WAIT
    model.others = (960 * MIB - model.used) // MIB
    assert model.run(5, until=lambda: model.asked("block") is Ask.STOP)
    assert model.run(10, until=lambda: model.asked("block") is Ask.KILL)
    assert model.asked("honest") <= Ask.SHED


def test_a_cooperative_one_that_is_alone_is_asked_for_less_and_then_to_end() -> None:
    """Where waiting helps nobody, going on with less comes first."""
    model = Model.of(job("block", 100, 960, cooperative=True))
    seen = []
    for _ in range(60):
        model.grow("block", 0)
        seen += [ask for _, ask in asks(model.look())]
    assert seen[:4] == [Ask.SHED, Ask.LIGHT, Ask.STOP, Ask.KILL]


@pytest.mark.requirement("R6.3", "T5.3")
def test_where_other_programs_fill_the_machine_the_newest_waits_and_dies_only_at_the_brink() -> None:
    """Jobs that keep to their reservation wait, the newest first; one dies only above the last line."""
    model = Model.of(job("old", 300, 200), job("new", 300, 200, since=9), others=555)
    model.run(3)
    assert (model.asked("old") < Ask.WAIT, model.asked("new")) == (True, Ask.FROZEN)
    model.others = 590
    assert model.run(5, until=lambda: "new" not in model.jobs)
    assert "old" in model.jobs
    assert "keep to their reservation" in model.history[-1].why or model.asked("old") is Ask.NOTHING


def test_a_job_of_another_domain_that_is_over_protects_those_who_are_not() -> None:
    """Whoever watches that domain stops it; here nobody who keeps to his reservation is held or ends."""
    pressure = PressureNow(Pressure.CRITICAL, 0.0, 0.99, 0.0, math.inf, 0.01)
    ladder, running = Ladder(), [job("a", 300, 200), job("b", 300, 200)]
    for second in range(20):
        steps = ladder.step(second, pressure, running, Machine(CAPACITY, CAPACITY // 100), others_over=True)
        assert {step.ask for step in steps} <= {Ask.SHED}


def test_they_go_on_one_at_a_time_by_priority_then_the_oldest() -> None:
    """When pressure has fallen, each is given a moment to show what it takes before the next goes on."""
    held = [
        job("young", 100, 50, asked=Ask.FROZEN, since=9),
        job("old", 100, 50, asked=Ask.FROZEN, since=1),
        job("urgent", 100, 50, asked=Ask.FROZEN, since=10, priority=1),
    ]
    model = Model.of(*held)
    freed: list[tuple[float, str]] = []
    for _ in range(30):
        freed += [(model.now_s, name) for name, _ in asks(model.look())]
    assert [name for _, name in freed] == ["urgent", "old", "young"]
    assert all(later[0] - sooner[0] >= LIMITS.pause_s for sooner, later in itertools.pairwise(freed))


def test_nobody_goes_on_where_it_would_not_fit() -> None:
    """What is promised to it and to those who run must be there; an over-user needs room below the first line."""
    model = Model.of(
        job("runs", 300, 200), job("held", 400, 100, asked=Ask.FROZEN, asked_at=100.0), others=400
    )
    model.run(5)
    assert model.asked("held") is Ask.FROZEN
    model.others = 200
    assert model.run(2, until=lambda: model.asked("held") is Ask.NOTHING)


def test_nobody_is_held_for_ever() -> None:
    """Whose memory nobody makes room for ends after its time; its guard may run it again with more."""
    model = Model.of(job("runs", 850, 700), job("held", 20, 150, asked=Ask.FROZEN, asked_at=100.0))
    assert not model.run(LIMITS.frozen_limit_s - 2, until=lambda: model.asked("held") is not Ask.FROZEN)
    assert model.run(5, until=lambda: "held" not in model.jobs)
    assert "waited 60 s" in model.history[-1].why


def test_another_attempt_in_the_same_lease_begins_afresh() -> None:
    """What was asked of a tree that is dead is not asked of the one after it."""
    model = Model.of(job("over", 10, 970), obeys=False)
    assert model.run(1, until=lambda: model.asked("over") is Ask.KILL)
    again = model.jobs["over"]
    model.jobs["over"] = replace(
        again, lease=replace(again.lease, used_bytes=0), entry=replace(again.entry, root_pid=77, used_bytes=0)
    )
    model.dying.clear()
    assert ("over", Ask.NOTHING) in asks(model.look())


@pytest.mark.requirement("R6.2", "R2.4")
@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(0, 400), st.booleans()), min_size=1, max_size=6),
    st.integers(0, 300),
    st.booleans(),
)
@hypothesis_settings(max_examples=60)
def test_constant_readings_never_oscillate(
    jobs: list[tuple[int, int, bool]], others: int, obeys: bool
) -> None:
    """At readings that do not change, each job is asked a few things, each more firmly or once taken back."""
    model = Model.of(
        *(job(f"j{n}", r, u, cooperative=c) for n, (r, u, c) in enumerate(jobs)), others=others, obeys=obeys
    )
    model.run(90, every_s=0.5)
    late = model.now_s
    told = len(model.history)
    model.run(60, every_s=0.5)
    for name in {step.lease.name for step in model.history}:
        assert len([step for step in model.history if step.lease.name == name]) <= 8
    assert all(step.ask in (Ask.KILL, Ask.NOTHING, Ask.STOP) for step in model.history[told:]), late


MOVES = st.lists(
    st.tuples(
        st.integers(0, 5), st.integers(-60, 90), st.sampled_from((0.01, 0.05, 0.3, 1.0)), st.integers(-30, 30)
    ),
    max_size=80,
)


@pytest.mark.requirement("R6.2", "R2.4", "T5.2")
@given(
    st.lists(
        st.tuples(st.integers(1, 300), st.integers(0, 200), st.booleans(), st.integers(-1, 1)),
        min_size=1,
        max_size=6,
    ),
    MOVES,
)
@hypothesis_settings(max_examples=150)
def test_whatever_jobs_do_the_rules_hold_and_nobody_stays_held(
    jobs: list[tuple[int, int, bool, int]], moves: list[tuple[int, int, float, int]]
) -> None:
    """No innocent dies while one is guilty, somebody can always finish, and in the end all go on or are gone."""
    model = Model.of(
        *(
            job(f"j{n}", r, u, cooperative=c, priority=p, since=float(n))
            for n, (r, u, c, p) in enumerate(jobs)
        )
    )
    for which, mib, after_s, others in moves:
        model.grow(f"j{which}", mib)
        model.others = max(0, min(600, model.others + others))
        model.look(after_s)
    bound_s = (LIMITS.frozen_limit_s + LIMITS.effect_s + 5) * (len(jobs) + 1)
    assert model.run(
        bound_s, every_s=0.5, until=lambda: not any(each.is_held for each in model.jobs.values())
    )


@pytest.mark.requirement("R6.2")
def test_at_full_speed_the_line_comes_sooner_and_who_has_stopped_is_not_meant() -> None:
    """What would be full in two looks is met at once above the high line; a rush that is over counts for nothing."""
    model = Model.of(job("over", 100, 500))
    model.look()
    for _ in range(9):
        model.grow("over", 45)
        model.look(0.01)
    assert asks(model.history)[-1] == ("over", Ask.KILL)
    assert model.used < 0.95 * CAPACITY
    calm = Model.of(job("over", 100, 500), job("honest", 100, 90))
    calm.look()
    for _ in range(8):
        calm.grow("over", 45)
        calm.look(0.01)
    assert calm.asked("over") is Ask.FROZEN
    calm.others = (940 * MIB - calm.used) // MIB
    calm.run(1)
    assert calm.asked("over") is Ask.FROZEN
