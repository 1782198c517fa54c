"""The benchmark's storm: its mixes, its oracle and its table say what they should."""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
MIB = 2**20
GIB = 2**30


@pytest.fixture(scope="module")
def storm() -> Iterator[Any]:
    """Yield the benchmark's modules, and forget them: other folders of programs have a `_common` too."""
    before = dict(sys.modules)
    sys.modules.pop("_common", None)
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield SimpleNamespace(
            **{
                name: importlib.import_module(f"_storm_{name}")
                for name in ("job", "mix", "oracle", "pen", "tally")
            }
        )
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in [name for name in sys.modules if name == "_common" or name.startswith("_storm_")]:
            del sys.modules[name]
        sys.modules.update({name: module for name, module in before.items() if name == "_common"})


def brute(tasks: list[tuple[float, int]], cores: int, memory: int) -> float:
    """Return the best makespan of whole seconds by trying every start of every task."""
    horizon = int(sum(seconds for seconds, _ in tasks))

    def fits(starts: list[int]) -> bool:
        for at in range(horizon):
            running = [
                task for task, start in zip(tasks, starts, strict=False) if start <= at < start + task[0]
            ]
            if len(running) > cores or sum(peak for _, peak in running) > memory:
                return False
        return True

    def search(starts: list[int]) -> float:
        if not fits(starts):
            return float("inf")
        if len(starts) == len(tasks):
            return max(start + task[0] for start, task in zip(starts, tasks, strict=True))
        return min(search([*starts, start]) for start in range(horizon))

    return search([])


class TestOracle:
    @pytest.mark.parametrize(
        ("tasks", "best_s"),
        [
            ([], 0.0),
            ([(2.0, 10)], 2.0),
            ([(2.0, 5), (3.0, 5)], 3.0),  # side by side
            ([(2.0, 6), (3.0, 5)], 5.0),  # too large together
            ([(1.0, 1), (1.0, 1), (1.0, 1)], 2.0),  # a core too few
            ([(3.0, 7), (1.0, 3), (1.0, 3), (1.0, 3)], 3.0),  # the small ones beside the large one
        ],
    )
    def test_small_cases(self, storm: Any, tasks: list[tuple[float, int]], best_s: float) -> None:
        """Two cores and ten bytes: the schedules that one finds by hand."""
        found = storm.oracle.best_makespan([storm.oracle.Task(*each) for each in tasks], 2, 10)
        assert found == best_s

    @pytest.mark.parametrize("seed", range(8))
    def test_nothing_beats_it(self, storm: Any, seed: int) -> None:
        """No schedule of whole seconds is better, whichever starts are tried, and one is as good."""
        chance = random.Random(seed)
        tasks = [(float(chance.randint(1, 3)), chance.randint(1, 9)) for _ in range(4)]
        found = storm.oracle.best_makespan([storm.oracle.Task(*each) for each in tasks], 2, 10)
        assert found == brute(tasks, 2, 10)

    def test_what_can_never_run_is_refused(self, storm: Any) -> None:
        """A task larger than the memory has no schedule."""
        with pytest.raises(ValueError, match="more than 10 bytes"):
            storm.oracle.best_makespan([storm.oracle.Task(1.0, 11)], 2, 10)


class TestMixes:
    def test_the_basic_mix(self, storm: Any) -> None:
        """Five honest jobs of 150 to 420 MiB and two liars, that together want three times 1 GiB."""
        jobs = storm.mix.basic(GIB, random.Random(1))
        honest = [job.fill_bytes // MIB for job in jobs if job.is_honest]
        assert (len(honest), honest[0], honest[-1]) == (5, 150, 420)
        liars = [job for job in jobs if not job.is_honest]
        assert [job.fill_bytes == 4 * job.named_bytes for job in liars] == [True, True]
        assert sum(job.fill_bytes for job in jobs) == pytest.approx(3 * GIB, rel=0.001)

    @pytest.mark.parametrize("seed", range(20))
    def test_drawn_mixes(self, storm: Any, seed: int) -> None:
        """Whatever is drawn wants three times the capacity, and each job alone could have what it names."""
        jobs = storm.mix.drawn(GIB, random.Random(seed))
        wanted = sum(job.fill_bytes for job in jobs)
        assert 3 * GIB <= wanted < 4 * GIB
        assert all(job.named_bytes < GIB // 2 and job.fill_bytes < GIB for job in jobs)
        assert len({job.name for job in jobs}) == len(jobs)
        assert jobs == storm.mix.drawn(GIB, random.Random(seed))


class TestTable:
    def trial(self, storm: Any, contender: str, endings: str, **more: Any) -> Any:
        """Return a trial of two honest jobs and a liar, ended as the letters say: f(inished) or k(illed)."""
        jobs = (storm.mix.honest(0, 5), storm.mix.honest(1, 6), storm.mix.liar(2, 4))
        said = {"f": "finished", "k": "signal 9"}
        ends = {job.name: {"ending": said[letter]} for job, letter in zip(jobs, endings, strict=True)}
        done = frozenset(name for name, end in ends.items() if end["ending"] == "finished")
        values = {"ends": ends, "done": done, "makespan_s": 4.0, "kills": endings.count("k")}
        return storm.pen.Trial(contender, jobs, **{**values, "full": 1, "high_water_bytes": GIB, **more})

    def test_what_is_lost_is_counted(self, storm: Any) -> None:
        """Two storms, one of which lost an honest job: the ratio is that of the other alone."""
        trials = [self.trial(storm, "plain", "ffk"), self.trial(storm, "plain", "kfk", makespan_s=1.0)]
        line = storm.tally.figure("plain", trials, storm.tally.Oracle((2.0, 2.0)))
        assert line.value == (
            "3 of 4 honest jobs finished; 3 kernel kills; 2.5 s;"
            " 2.00 x the oracle (of the 1 without a loss); liars: 2 signal 9"
        )
        assert line.met is None
        assert line.data["trials"][1]["false_kills"] == ["honest0"]

    def test_a_word_without_work_does_not_count(self, storm: Any) -> None:
        """Who is said to have finished and left no check value has not; who left one and was not waited for neither."""
        said = self.trial(storm, "loky", "ffk", done=frozenset({"honest0"}))
        unseen = self.trial(storm, "loky", "ffk", ends={})
        assert [job.name for job in storm.tally.lost_honest(said)] == ["honest1"]
        assert len(storm.tally.lost_honest(unseen)) == 2
        assert storm.tally.counted([unseen], honest=False) == {"lost with its contender": 1}

    @pytest.mark.parametrize(
        ("endings", "kills", "met"), [("ffk", 0, True), ("fkk", 0, False), ("ffk", 1, False)]
    )
    def test_the_aim(self, storm: Any, endings: str, kills: int, met: bool) -> None:
        """Memguard is to lose no honest job and to leave the kernel nothing to do."""
        trials = [self.trial(storm, "memguard", endings, kills=kills)]
        assert storm.tally.figure("memguard", trials, storm.tally.Oracle(())).met is met

    def test_the_oracle_runs_the_honest_ones(self, storm: Any) -> None:
        """Two that do not fit together follow each other; where one failed alone there is no oracle."""
        alone = self.trial(storm, "solo", "ffk")
        ends = {job.name: {"ending": "finished", "seconds": 2.0, "peak_bytes": 6} for job in alone.jobs[:2]}
        trial = self.trial(storm, "solo", "ffk", ends=ends)
        assert storm.tally.oracle_of(trial, 2, 10) == 4.0
        assert storm.tally.oracle_of(self.trial(storm, "solo", "fkk"), 2, 10) is None
