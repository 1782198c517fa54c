"""Real jobs, recorded once and replayed: AutoFeat and scikit-learn fits of drawn sizes, sized in the order of the day.

Each job runs through `MemoryManager.run` with estimator and data as any user would give them, and is kept by the store
of episodes as every guarded job is; a replay reads kind, features and peak from there. Recording goes on where it was
stopped.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from _common import Figure
from _forecast_own_jobs import PRELOAD, drawn
from _forecast_peers import PEERS, Estimator, Rule
from _forecast_replay import Outcome, Sizes, Task, in_true_order

from memguard import MemoryManager
from memguard.config import load_settings
from memguard.episodes import EpisodeStore
from memguard.estimate.calibration import binomial_tail
from memguard.forecasting.past import past_of
from memguard.units import GIB, format_bytes

__all__ = ["JOBS", "figures", "record", "tasks_of"]

JOBS: Final = 300
FEW_JOBS: Final = 60
# What a job gets whose kind is not known, and a retry at most: the budget that the jobs were recorded in.
_NODE_BYTES: Final = 2 * GIB
_MOST_MISSED: Final = 0.05
_OF_LARGEST: Final = 0.5
_CHANCE: Final = 0.01


def record(folder: Path, count: int = JOBS, tell: Callable[[str], None] = print) -> None:
    """Run the jobs that a store has not yet, one after another.

    Args:
        folder: of the store.
        count: how many jobs there are to be in all.
        tell: told of each.
    """
    settings = load_settings({"episodes": folder, "ledger": "off"})
    with EpisodeStore(folder) as store:
        known = {str(each.metadata.get("name")) for each in store.episodes(kind="job")}
    # What the fits warn of is no matter here; workers read it as they start.
    os.environ["PYTHONWARNINGS"] = "ignore"
    # Many threads on a busy machine wait for each other; what is recorded is memory.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    with MemoryManager(_NODE_BYTES, settings=settings, preload=PRELOAD) as manager:
        for number in range(count):
            name = f"own job {number}"
            if name not in known:
                tell(_run(manager, name, random.Random(name)))


def _run(manager: MemoryManager, name: str, chance: random.Random) -> str:
    fit, data = drawn(chance)
    report = manager.run(fit, *data, name=name, check=False).report
    peak = format_bytes(report.proven_peak_bytes)
    kind = report.sizing.kind if report.sizing else ""
    return f"{name}: {report.outcome.value}, {peak} in {report.duration_s:.1f} s, {kind:.60}"


def figures(folder: Path | None, count: int = FEW_JOBS) -> list[Figure]:
    """Replay a store of recorded jobs.

    Args:
        folder: of the store; ``None`` records some jobs first, and drops them afterwards.
        count: how many, without a folder.
    """
    if folder is not None:
        return _replayed(tasks_of(folder))
    with tempfile.TemporaryDirectory() as scratch:
        record(Path(scratch), count, lambda _: None)
        return _replayed(tasks_of(Path(scratch)))


def tasks_of(folder: Path) -> list[Task]:
    """Return the jobs of a store that completed, in the order in which they were recorded."""
    with EpisodeStore(folder) as store:
        found = [(past_of(each.id, each.metadata), each.happened_at_s) for each in store.episodes(kind="job")]
    return [
        Task(
            kind=f"{job.kind} in {job.world}",
            features=job.features,
            peak_bytes=job.peak_bytes,
            runtime_s=max(0.01, job.runtime_s),
            submitted_s=ended_s - job.runtime_s,
            ended_s=ended_s,
            request_bytes=_NODE_BYTES,
        )
        for job, ended_s in found
        if job is not None and job.peak_bytes is not None
    ]


class _OnThisNode(Estimator):
    """This project's estimator; where it knows nothing the job gets what it would get without it, as in use."""

    def __init__(self) -> None:
        super().__init__(_MOST_MISSED)
        self.estimator.capacity_bytes = _NODE_BYTES

    def size(self, task: Task) -> float:
        """Return what it says, if it says something."""
        prediction = self.estimator.predict(task.kind, task.features)
        self.promised = prediction.promised
        return task.request_bytes if prediction.basis == "nothing" else prediction.bytes


def _replayed(tasks: Sequence[Task]) -> list[Figure]:
    outcome = in_true_order(tasks, _OnThisNode())
    others = {name: in_true_order(tasks, _on_this_node(make())) for name, make in PEERS.items()}
    largest = others["max x 1.1"]
    return [
        _jobs(tasks),
        _missed("memguard at 5%", outcome, _MOST_MISSED),
        _ratio("waste against max x 1.1", outcome.wasted_gbh / largest.wasted_gbh),
        *(_ratio_after(tasks, count, words) for count, words in ((1, "second"), (5, "sixth"))),
        _of_promised(outcome),
        *(_missed(name, each) for name, each in others.items()),
        _time(outcome.seconds),
    ]


def _on_this_node(rule: Rule) -> Rule:
    rule.node_bytes = float(_NODE_BYTES)
    return rule


def _ratio(what: str, ratio: float) -> Figure:
    value, aim = f"{ratio:.2f} x", f"<= {_OF_LARGEST} x"
    return Figure(f"own jobs: {what}", value, aim, ratio <= _OF_LARGEST, {"ratio": ratio})


def _ratio_after(tasks: Sequence[Task], count: int, words: str) -> Figure:
    largest = _later(tasks, _on_this_node(PEERS["max x 1.1"]()), count)
    return _ratio(f"the same from the {words} of each kind on", _later(tasks, _OnThisNode(), count) / largest)


def _jobs(tasks: Sequence[Task]) -> Figure:
    peaks = sorted(each.peak_bytes for each in tasks)
    told = ", ".join(
        format_bytes(int(peaks[int(part * (len(peaks) - 1))])) for part in (0, 0.25, 0.5, 0.75, 1)
    )
    kinds = len({each.kind for each in tasks})
    spent = sum(each.runtime_s for each in tasks)
    value = f"{len(tasks)} of {kinds} kinds in {spent:.0f} s, quartiles of peaks {told}"
    return Figure("own jobs: completed", value, data={"jobs": len(tasks), "kinds": kinds, "peaks": peaks})


def _missed(who: str, outcome: Outcome, most: float | None = None) -> Figure:
    missed, waste = outcome.miss_share, outcome.wasted_gbh * 3600
    value = f"{missed:.2%} missed, {waste:.4g} GB s wasted"
    data = {"missed": missed, "wasted_gbh": outcome.wasted_gbh}
    if most is None:
        return Figure(f"own jobs: {who}", value, data=data)
    return Figure(f"own jobs: {who}", value, f"<= {most:.0%} missed", missed <= most, data)


def _of_promised(outcome: Outcome) -> Figure:
    """Count the promised ones; more misses than come by chance in one of a hundred replays break the promise."""
    kept = binomial_tail(outcome.promised_misses, outcome.promised, _MOST_MISSED) >= _CHANCE
    value = f"{outcome.promised_misses} of {outcome.promised} missed"
    data = {"promised": outcome.promised, "missed": outcome.promised_misses}
    return Figure(
        "own jobs: promised only", value, f"<= {_MOST_MISSED:.0%}, as far as so few tell", kept, data
    )


def _later(tasks: Sequence[Task], sizes: Sizes, after: int) -> float:
    """Return the waste without that of the first so many of each kind."""
    seen, counted = Counter[str](), Outcome()
    for task in sorted(tasks, key=lambda each: each.submitted_s):
        size = sizes.size(task)
        (counted if seen[task.kind] >= after else Outcome()).run(task, sizes, size, sizes.promised)
        seen[task.kind] += 1
        sizes.learn(task)
    return counted.wasted_gbh


def _time(seconds: Sequence[float]) -> Figure:
    ordered = sorted(seconds)
    middle, late = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    value = f"p50 {middle * 1000:.1f} ms, p99 {late * 1000:.1f} ms"
    return Figure(
        "own jobs: one prediction", value, "p99 <= 10 ms", late <= 0.010, {"p50_s": middle, "p99_s": late}
    )
