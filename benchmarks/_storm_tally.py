"""What storms came to: one line for each contender, from the trials alone."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from _common import Figure
from _storm_mix import Job
from _storm_oracle import Task, best_makespan
from _storm_pen import Trial

__all__ = ["Oracle", "figure", "oracle_figure", "oracle_of"]

_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Oracle:
    """What the best schedules for the honest jobs of each trial take; ``None`` where a job alone did not finish."""

    makespans_s: tuple[float | None, ...]

    def ratios(self, trials: Sequence[Trial]) -> list[float]:
        """Return makespan over oracle for trials that lost no honest job: one that loses them is soon over."""
        pairs = zip(trials, self.makespans_s, strict=False)
        return [trial.makespan_s / best_s for trial, best_s in pairs if best_s and not lost_honest(trial)]


def oracle_of(trial: Trial, cores: int, memory_bytes: int) -> float | None:
    """Return the best makespan of the honest jobs, each as it was measured alone.

    The liars count for nothing: each is known for what it is and refused. Nobody who has to find out can be as good.
    """
    if lost_honest(trial):
        return None
    tasks = [Task(end["seconds"], end["peak_bytes"]) for end in trial.ends.values()]
    return best_makespan(tasks, cores, memory_bytes)


def is_finished(trial: Trial, job: Job) -> bool:
    """Whether a job did its work and its contender says so."""
    return job.name in trial.done and ending(trial, job) == "finished"


def ending(trial: Trial, job: Job) -> str:
    """Return how a job ended, in the words of its contender."""
    return str(trial.ends.get(job.name, {}).get("ending", "lost with its contender"))


def lost_honest(trial: Trial) -> list[Job]:
    """Return the honest jobs that stayed inside what they named and did not finish: false kills, whoever did it."""
    return [job for job in trial.jobs if job.is_honest and not is_finished(trial, job)]


def figure(contender: str, trials: Sequence[Trial], oracle: Oracle) -> Figure:
    """Return a contender's line."""
    honest = sum(job.is_honest for trial in trials for job in trial.jobs)
    lost = sum(len(lost_honest(trial)) for trial in trials)
    kills = sum(trial.kills for trial in trials)
    parts = [
        f"{honest - lost} of {honest} honest jobs finished",
        f"{kills} kernel kills",
        f"{middle(trial.makespan_s for trial in trials):.1f} s",
        *ratio_told(oracle.ratios(trials), len(trials)),
        f"liars: {endings_told(trials, honest=False)}",
    ]
    is_ours = contender == "memguard"
    return Figure(
        f"{contender}, {len(trials)} storms",
        "; ".join(parts),
        "all honest, no kernel kill" if is_ours else "",
        lost == 0 and kills == 0 if is_ours else None,
        {**totals(trials, oracle), "trials": [told(trial) for trial in trials]},
    )


def ratio_told(ratios: Sequence[float], trials: int) -> list[str]:
    """Return the ratio in words, if there was a storm without a loss."""
    if not ratios:
        return []
    of = "" if len(ratios) == trials else f" (of the {len(ratios)} without a loss)"
    return [f"{middle(ratios):.2f} x the oracle{of}"]


def oracle_figure(oracle: Oracle) -> Figure:
    """Return the oracle's line."""
    known = [each for each in oracle.makespans_s if each is not None]
    value = f"{middle(known):.1f} s for the honest jobs" if known else "not known: a job alone did not finish"
    return Figure("oracle", value, data={"makespans_s": list(oracle.makespans_s)})


def totals(trials: Sequence[Trial], oracle: Oracle) -> dict[str, Any]:
    """Return what is added up, for programs."""
    known_full = [trial.full for trial in trials if trial.full is not None]
    return {
        "honest": sum(job.is_honest for trial in trials for job in trial.jobs),
        "false_kills": sum(len(lost_honest(trial)) for trial in trials),
        "kernel_kills": sum(trial.kills for trial in trials),
        "times_full": sum(known_full) if known_full else None,
        "honest_endings": counted(trials, honest=True),
        "liars_endings": counted(trials, honest=False),
        "makespan_median_s": middle(trial.makespan_s for trial in trials),
        "ratio_median": middle(oracle.ratios(trials)) if oracle.ratios(trials) else None,
    }


def counted(trials: Sequence[Trial], *, honest: bool) -> dict[str, int]:
    """Count endings, the most frequent first."""
    return dict(
        Counter(
            ending(trial, job) for trial in trials for job in trial.jobs if job.is_honest is honest
        ).most_common()
    )


def endings_told(trials: Sequence[Trial], *, honest: bool) -> str:
    """Return the endings in words."""
    return ", ".join(f"{times} {what}" for what, times in counted(trials, honest=honest).items()) or "none"


def told(trial: Trial) -> dict[str, Any]:
    """Return one trial for programs, with the words of what was lost."""
    return {
        "jobs": [[job.name, job.fill_bytes, job.named_bytes] for job in trial.jobs],
        "ends": trial.ends,
        "false_kills": [job.name for job in lost_honest(trial)],
        "makespan_s": round(trial.makespan_s, 3),
        "kernel_kills": trial.kills,
        "times_full": trial.full,
        "high_water_mib": None if trial.high_water_bytes is None else trial.high_water_bytes // _MIB,
        "lost": trial.lost,
        "words": {job.name: trial.words[job.name] for job in lost_honest(trial) if job.name in trial.words},
    }


def middle(values: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(values)
