"""Feature selection: several runs on samples of the rows, then what they agree on, thinned out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memguard_integrations.autofeat.engine.selection.blocks import BLOCK_BYTES, Rows
from memguard_integrations.autofeat.engine.selection.choice import by_frequency, kept_columns
from memguard_integrations.autofeat.engine.selection.classification import ClassificationModels
from memguard_integrations.autofeat.engine.selection.correlation import correlations, uncorrelated
from memguard_integrations.autofeat.engine.selection.regression import RegressionModels
from memguard_integrations.autofeat.engine.selection.run import Models, Run
from memguard_integrations.autofeat.engine.selection.sample import Sample, run_sample
from memguard_integrations.autofeat.engine.selection.standard import ColumnSource, Standardised, moments
from memguard_integrations.autofeat.engine.threads import most_threads

__all__ = ["DEFAULT_MEMORY_BYTES", "Progress", "select"]

LOG = logging.getLogger("memguard.autofeat")
# Working memory when the caller names none: sums for about 1500 columns, noise for some hundred.
DEFAULT_MEMORY_BYTES = 256 << 20
# Share of it that noise may take; sums and blocks have the rest.
NOISE_SHARE = 0.25
# A block of rows is at most such a part of it: each thread has one, and what is made of it besides.
BLOCK_PART = 16


class Progress(Protocol):
    """Told where a selection is."""

    def __call__(self, phase: str, done: int, total: int) -> None:
        """``phase`` is ``run`` (``done`` of ``total`` runs begun), ``split`` (the same for a run) or ``filter``."""


@dataclass(frozen=True, slots=True)
class _Task:
    """Standardised columns and target, and how to work."""

    data: Standardised
    names: Sequence[Any]
    target: NDArray[Any]
    regression: bool
    memory_bytes: int
    threads: int
    verbose: int
    on_progress: Progress
    on_step: Callable[[], None]
    texts: list[str] = field(default_factory=list)

    def run(self, sample: Sample, random: np.random.RandomState, columns: Sequence[int]) -> Run:
        """Return a run on a sample whose models see some columns."""
        return Run(
            self.data,
            self.names,
            sample,
            self._models(sample, columns),
            random,
            int(NOISE_SHARE * self.memory_bytes),
            lambda number, total: self.on_progress("split", number, total),
        )

    def _models(self, sample: Sample, columns: Sequence[int]) -> Models:
        target = self.target[sample.rows]
        budget = int((1 - NOISE_SHARE) * self.memory_bytes)
        if not self.regression:
            return ClassificationModels(self.data, sample, target, budget, self.on_step, threads=self.threads)
        block_bytes = min(BLOCK_BYTES, self.memory_bytes // BLOCK_PART)
        rows = Rows(self.data, sample, target, self.on_step, block_bytes, self.threads)
        return RegressionModels(rows, np.asarray(columns, dtype=np.intp), budget)

    def say(self, text: str, *values: object) -> None:
        """Log what autofeat would."""
        if self.verbose > 0:
            LOG.info("[featsel] " + text, *values)


def select(
    columns: ColumnSource,
    names: Sequence[Any],
    target: ArrayLike,
    *,
    runs: int = 5,
    keep: Sequence[Any] | None = None,
    problem_type: str = "regression",
    n_jobs: int = 1,
    verbose: int = 0,
    memory_bytes: int | None = None,
    on_progress: Progress | None = None,
    on_step: Callable[[], None] | None = None,
) -> list[Any]:
    """Choose columns that predict a target, as autofeat does, in bounded memory.

    The random streams are autofeat's: run i draws from a legacy generator seeded with i, and the last comparison
    with noise goes on where the last run ended. numpy's global generator is neither read nor changed.

    Args:
        columns: Real, finite columns; they are read in blocks and never copied as a whole.
        names: Their names, all different.
        target: Values or, for classification, classes; shape (rows,).
        runs: How many samples of 85 % of the rows vote; 0 compares all columns with noise once.
        keep: Names that are chosen anyway. As with autofeat, what the runs chose is then not compared with
            noise again.
        problem_type: "regression" or "classification"; with another one, all columns are returned.
        n_jobs: Above 1, how many threads may work at once; 1 and ``None`` leave it to the processors, see
            ``most_threads``. Runs come one after another all the same: two at once would take twice the memory.
        verbose: Above 0, what autofeat logs is logged to ``memguard.autofeat``.
        memory_bytes: Working memory to aim at beside the columns; ``None`` is 256 MiB. A classification holds the
            rows of a fold whatever is given, and warns where that is more.
        on_progress: Told the phase and the run or split at hand.
        on_step: Called between bounded steps; a guarded job waits in it while memory is short.

    Returns:
        The chosen names: those to keep, then the others from the most often chosen on.

    Raises:
        ValueError: Lengths differ, a column is constant or holds NaN, the target cannot be learnt, or there are
            too few rows for five folds.
    """
    if len(names) != len(columns):
        raise ValueError("There must be one name for each column.")
    if columns.n_rows != len(np.asarray(target)):
        raise ValueError("[featsel] df and target dimension mismatch.")
    kept = kept_columns(keep, names)
    if problem_type not in ("regression", "classification"):
        LOG.warning("[featsel] Unknown problem_type %s - not performing noise filtering.", problem_type)
        return _with_kept(kept, list(names))
    if verbose > 0 and runs > columns.n_rows:
        LOG.warning("[featsel] Less data points than featsel runs!!")
    regression = problem_type == "regression"
    task = _Task(
        data=Standardised(columns),
        names=names,
        target=_scaled(np.asarray(target)) if regression else np.asarray(target),
        regression=regression,
        memory_bytes=DEFAULT_MEMORY_BYTES if memory_bytes is None else memory_bytes,
        threads=most_threads(n_jobs),
        verbose=verbose,
        on_progress=on_progress or _no_progress,
        on_step=on_step or _no_step,
    )
    return _selected(task, runs, kept)


def _scaled(target: NDArray[Any]) -> NDArray[np.float64]:
    values = target.astype(np.float64).ravel()
    mean, std = moments(values)
    with np.errstate(all="ignore"):
        scaled: NDArray[np.float64] = (values - mean) / std
    if not np.isfinite(scaled).all():
        raise ValueError("Input y contains NaN.")
    return scaled


def _selected(task: _Task, runs: int, kept: list[Any]) -> list[Any]:
    everything = list(range(len(task.names)))
    # Without runs autofeat goes on from numpy's global state, which nobody can repeat; seed 0 can be.
    random = np.random.RandomState(0)
    chosen: list[Any] = []
    for number in range(runs):
        task.say("Feature selection run %d/%d", number + 1, runs)
        task.on_progress("run", number + 1, runs)
        random = np.random.RandomState(number)
        run = task.run(run_sample(task.data.n_rows, random), random, everything)
        chosen.extend(task.names[column] for column in run.select())
        del run  # the sums of one run go before those of the next come
    good = list(task.names)
    if chosen:
        good = _thinned(task, by_frequency(chosen), kept, runs)
        if kept:
            # autofeat appends to the very list of columns to keep, so it keeps what is in it.
            return good
    return _with_kept(kept, _final(task, good, random))


def _thinned(task: _Task, ranked: list[Any], kept: list[Any], runs: int) -> list[Any]:
    """Leave out what correlates with a column that was chosen more often."""
    task.say("%d features after %d feature selection runs", len(ranked), runs)
    ranked = _with_kept(kept, ranked)
    first = max(1, len(kept))
    good = ranked[:first]
    if len(ranked) > first:
        task.on_progress("filter", 0, 1)
        matrix = correlations(task.data, _places(task.names, ranked), task.on_step)
        good += [ranked[place] for place in uncorrelated(matrix, first)]
    task.say("%d features after correlation filtering", len(good))
    return good


def _final(task: _Task, good: list[Any], random: np.random.RandomState) -> list[Any]:
    """Compare with noise once more, on all rows."""
    columns = _places(task.names, good)
    found = task.run(Sample(np.arange(task.data.n_rows)), random, columns).above_noise(columns)
    task.say("%d features after noise filtering", len(found))
    if task.verbose > 0 and not found:
        LOG.warning("[featsel] Not a single good features was found...")
    return [task.names[column] for column in found]


def _places(names: Sequence[Any], some: Sequence[Any]) -> list[int]:
    index = {name: place for place, name in enumerate(names)}
    return [index[name] for name in some]


def _with_kept(kept: list[Any], others: list[Any]) -> list[Any]:
    return kept + [name for name in others if name not in kept]


def _no_progress(phase: str, done: int, total: int) -> None:
    """Tell nobody."""


def _no_step() -> None:
    """Go on at once."""
