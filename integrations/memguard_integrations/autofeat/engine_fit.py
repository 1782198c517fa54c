"""This project's engine at work inside a worker: matrix and settings in, a `FittedModel` out, phases told on the way.

What the worker has left of its budget is the engine's to hold; columns that do not fit go to a scratch file. Where the
job is asked to wait, the engine waits between its steps.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import Any, Final

import pandas as pd

from memguard.estimate import engine_bytes
from memguard.host import private_bytes_now, read_process_memory
from memguard.worker import current_job
from memguard_integrations.autofeat.encode import Matrix, to_frame
from memguard_integrations.autofeat.engine import AutoFeatClassifier, AutoFeatRegressor, kernels
from memguard_integrations.autofeat.engine.columns import shared_pool
from memguard_integrations.autofeat.engine.estimators.watching import FitWatch, watched
from memguard_integrations.autofeat.engine.expansion import expand
from memguard_integrations.autofeat.engine.planning.choosing import Forecast, forecast
from memguard_integrations.autofeat.outcome import fitted_model, quiet, typed
from memguard_integrations.autofeat.progress import Progress
from memguard_integrations.autofeat.records import FeaturePlan, FitSettings, FittedModel, Task
from memguard_integrations.autofeat.releasing import release

__all__ = ["count_columns", "fit"]

# Use beyond this share of the budget is a fit that its forecast was wrong about.
_BRINK: Final = 0.97
_LOOK_EVERY_S: Final = 0.1

# The template imports this module: what it has loaded, no worker has to, and all of them share it.
kernels.load()


def fit(
    features: Matrix, target: Matrix, plan: FeaturePlan, settings: FitSettings, progress: Progress
) -> tuple[FittedModel, Any, pd.DataFrame]:
    """Fit on all the rows given.

    Args:
        features: rows x columns, finite.
        target: numbers, or class codes.
        plan: what the columns are.
        settings: steps, runs, transformations, processes.
        progress: told of each phase.

    Returns:
        The model as data, the model itself, and the rows with engineered columns.

    Raises:
        ScratchFull: if the disk has no room for the columns that do not fit into memory.
    """
    kinds = {Task.REGRESSION: AutoFeatRegressor, Task.CLASSIFICATION: AutoFeatClassifier}
    model = kinds[settings.task](
        feateng_steps=settings.steps,
        featsel_runs=settings.selection_runs,
        transformations=settings.transformations,
        n_jobs=settings.jobs,
        memory=_memory_bytes(progress),
        light_mode=settings.light.value,
    )
    progress.phase("expand")
    with (
        quiet(),
        watched(_Followed(progress).watch),
        forecast(Forecast(settings.counts, settings.relief)),
    ):
        engineered = model.fit_transform(to_frame(features, plan), typed(target, settings.task))
    _note(model, progress)
    fitted = replace(fitted_model(model, plan, engineered), left_out=model.left_out_)
    return fitted, model, engineered


def _note(model: Any, progress: Progress) -> None:
    """Put what was left out, and how the pool of columns did, into the report."""
    for sentence in model.left_out_:
        progress.warn(f"light mode: {sentence}")
    if model.left_out_:
        progress.note("left_out", "; ".join(model.left_out_))
    pool = shared_pool().statistics()
    progress.note("pool_peak_bytes", pool.peak_bytes)
    progress.note("pool_reuse_rate", round(pool.reuse_rate, 4))
    progress.note("pool_inner_fragmentation", round(pool.inner_fragmentation, 4))
    progress.note("pool_outer_fragmentation", round(pool.outer_fragmentation, 4))


def count_columns(
    features: Matrix, plan: FeaturePlan, settings: FitSettings, progress: Progress
) -> tuple[int, int]:
    """Expand a few rows and return how many columns were made (start columns included) and how many are kept."""
    made = [features.shape[1]]

    def count(step: int, steps: int, columns: int) -> None:
        made[0] = max(made[0], columns)
        progress.fraction((step - 1) / steps)

    with quiet():
        expansion = expand(
            to_frame(features, plan),
            list(plan.names),
            None,
            settings.steps,
            settings.transformations,
            on_progress=lambda told: count(told.step, told.steps, told.columns),
        )
        with expansion:
            kept = len(expansion.names)
    return max(made[0], kept), kept


def _memory_bytes(progress: Progress) -> int | None:
    """Return what the engine may hold; ``None`` outside a guard, where nothing bounds it."""
    if progress.budget_bytes == sys.maxsize:
        return None
    return engine_bytes(progress.budget_bytes, read_process_memory().private_bytes)


class _Followed:
    """Turns what the engine tells into phases and shares done, and stands at the job's checkpoints."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._selects = False
        self._runs = (0, 1)
        job = current_job()
        checkpoint = job.checkpoint if job is not None else _nothing
        self._job = job
        self._looked_s = 0.0
        # The cheap figure counts what this process inherited, which is its template's and in no budget.
        self._inherited_bytes = private_bytes_now() - read_process_memory().private_bytes
        self.watch = FitWatch(self._expansion, self._selection, checkpoint, self._fit, self._is_short)

    def _expansion(self, step: int, steps: int, columns: int) -> None:
        self.watch.on_step()
        self._progress.fraction((step - 1) / steps)

    def _selection(self, phase: str, done: int, total: int) -> None:
        if not self._selects:
            self._selects = True
            self._progress.phase("select")
        if phase == "run":
            self._runs = (done, max(1, total))
        within = done / total if phase == "split" and total else 0.0
        run, runs = self._runs
        self._progress.fraction(min(1.0, (max(0, run - 1) + within) / runs))

    def _is_short(self) -> bool:
        """Whether the job is asked to go on with less, or is about to pass its budget, for which it would be killed."""
        if self._job is None:
            return False
        if self._job.asked.light:
            return True
        if time.monotonic() - self._looked_s < _LOOK_EVERY_S:
            return False
        self._looked_s = time.monotonic()
        pool = shared_pool().statistics()
        used = private_bytes_now() - self._inherited_bytes + pool.in_use_bytes + pool.idle_bytes
        return used > _BRINK * self._progress.budget_bytes

    def _fit(self) -> None:
        release()
        self._progress.phase("fit")


def _nothing() -> None:
    """Stand for the checkpoint of no job."""
