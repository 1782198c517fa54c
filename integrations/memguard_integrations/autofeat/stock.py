"""Stock autofeat, run inside the worker: matrix and settings in, a `FittedModel` out, phases told on the way.

AutoFeat's own code runs unchanged. Around it, in this process only: its functions announce their phases, its
log lines and progress dots become progress, its warnings about overflow (a candidate that it then throws
away) are silenced, and the sets whose order decides which features it looks at first keep the order in which
they were filled, so that the same seed gives the same features; with plain sets that depends on
PYTHONHASHSEED.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import autofeat.autofeat as stock_model
import autofeat.featsel as stock_selection
import pandas as pd
from autofeat.feateng import engineer_features

from memguard_integrations.autofeat.encode import Matrix, to_frame
from memguard_integrations.autofeat.outcome import fitted_model, quiet, typed
from memguard_integrations.autofeat.progress import Progress
from memguard_integrations.autofeat.records import FeaturePlan, FitSettings, FittedModel, Task
from memguard_integrations.autofeat.selection_progress import SelectionProgress

__all__ = ["count_columns", "fit"]

_DONE: Final = re.compile(r"(\d+)/\s*(\d+)")
_RUN: Final = re.compile(r"selection run (\d+)/(\d+)")
_GENERATED: Final = re.compile(r"Generated (\d+) (?:transformed features|feature combinations) from")


def fit(
    features: Matrix, target: Matrix, plan: FeaturePlan, settings: FitSettings, progress: Progress
) -> tuple[FittedModel, Any, pd.DataFrame]:
    """Fit stock autofeat on all the rows given; ``max_gb`` stays unset, so that it never takes fewer.

    Args:
        features: rows x columns, finite.
        target: numbers, or class codes.
        plan: what the columns are.
        settings: steps, runs, transformations, processes.
        progress: told of each phase.

    Returns:
        The model as data, the stock model itself with its formulas compiled, and the rows with engineered
        columns.
    """
    model = _new_model(settings)
    with _announced(progress), quiet(), _joblib_ended():
        engineered = model.fit_transform(to_frame(features, plan), typed(target, settings.task))
    model.verbose = 0
    return fitted_model(model, plan, engineered), model, engineered


def count_columns(
    features: Matrix, plan: FeaturePlan, settings: FitSettings, progress: Progress
) -> tuple[int, int]:
    """Expand a few rows and return how many columns AutoFeat generated (start columns included) and kept."""
    generated = [features.shape[1]]

    def count(line: str) -> None:
        match = _GENERATED.search(line)
        generated[0] += int(match[1]) if match else 0

    with _announced(progress, on_line=count), quiet():
        kept, _ = engineer_features(
            to_frame(features, plan),
            list(plan.names),
            {},
            settings.steps,
            settings.transformations,
            verbose=1,
        )
    return generated[0], int(kept.shape[1])


def _new_model(settings: FitSettings) -> Any:
    kinds = {
        Task.REGRESSION: stock_model.AutoFeatRegressor,
        Task.CLASSIFICATION: stock_model.AutoFeatClassifier,
    }
    return kinds[settings.task](
        feateng_steps=settings.steps,
        featsel_runs=settings.selection_runs,
        transformations=settings.transformations,
        n_jobs=settings.jobs,
        # With several processes joblib would print its own progress, and so would each of them.
        verbose=1 if settings.jobs == 1 else 0,
    )


class _OrderedSet(dict[Any, None]):
    """A set that keeps the order of its members; as much of the interface as autofeat's selection uses."""

    def __init__(self, members: Iterable[Any] = ()) -> None:
        super().__init__(dict.fromkeys(members))

    def difference(self, others: Iterable[Any]) -> _OrderedSet:
        without = set(others)
        return _OrderedSet(each for each in self if each not in without)

    def update(self, members: Iterable[Any]) -> None:  # type: ignore[override]
        super().update(dict.fromkeys(members))


@contextlib.contextmanager
def _announced(progress: Progress, on_line: Callable[[str], None] | None = None) -> Iterator[None]:
    """Have autofeat's functions tell their phases, for the length of a ``with`` block."""
    expand, select = stock_model.engineer_features, stock_model.select_features
    selection = SelectionProgress(progress)

    def announced_expand(*args: Any, **kwargs: Any) -> Any:
        progress.phase("expand")
        return expand(*args, **kwargs)

    def announced_select(*args: Any, **kwargs: Any) -> Any:
        progress.phase("select")
        with selection.counted():
            good = select(*args, **kwargs)
        selection.end()
        progress.phase("fit")
        return good

    stock_model.engineer_features, stock_model.select_features = announced_expand, announced_select
    vars(stock_selection)["set"] = _OrderedSet
    try:
        with _log_lines_to(selection, on_line), contextlib.redirect_stdout(_ProgressDots(progress)):
            yield
    finally:
        stock_model.engineer_features, stock_model.select_features = expand, select
        del vars(stock_selection)["set"]


class _Lines(logging.Handler):
    def __init__(self, selection: SelectionProgress, on_line: Callable[[str], None] | None) -> None:
        super().__init__()
        self._selection, self._on_line = selection, on_line

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        run = _RUN.search(line)
        if run:
            self._selection.begin_run(int(run[1]), int(run[2]))
        if self._on_line is not None:
            self._on_line(line)


@contextlib.contextmanager
def _log_lines_to(selection: SelectionProgress, on_line: Callable[[str], None] | None) -> Iterator[None]:
    # AutoFeat logs on the root logger, to which it gave a handler when it was imported.
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = [_Lines(selection, on_line)]
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


class _ProgressDots(io.TextIOBase):
    """Takes autofeat's progress prints (``100/  1431 feature tuples combined``), passes the fraction on."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        match = _DONE.search(text)
        if match and int(match[2]):
            self._progress.fraction(int(match[1]) / int(match[2]))
        return len(text)


@contextlib.contextmanager
def _joblib_ended() -> Iterator[None]:
    """Have joblib's processes end with the fit; by themselves they stay for minutes, data and all."""
    # Children hash strings anew; fixed, so that the same seed gives the same features there too.
    os.environ["PYTHONHASHSEED"] = "0"
    # They start anew, without this process's filters: their warnings are as much noise as the ones silenced here.
    os.environ["PYTHONWARNINGS"] = "ignore"
    try:
        yield
    finally:
        from joblib.externals.loky import reusable_executor  # type: ignore[import-untyped]  # noqa: PLC0415

        executor = reusable_executor._executor
        if executor is not None:
            executor.shutdown(wait=True, kill_workers=True)
