"""The jobs over data in memory: fit, transform, predict, score on a frame or an array that the caller gave.

Runs inside the worker. Results keep the frame's index and order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from memguard.errors import DataError
from memguard_integrations.autofeat.encode import Matrix, encode_target, sample_rows, usable_rows
from memguard_integrations.autofeat.engines import fit as fit_engine
from memguard_integrations.autofeat.names import nearest_hint
from memguard_integrations.autofeat.outcome import open_model
from memguard_integrations.autofeat.progress import Progress
from memguard_integrations.autofeat.records import FitSettings, FittedModel, Survey, Task
from memguard_integrations.autofeat.sources import TARGET, FrameSource
from memguard_integrations.autofeat.surveying import prepare
from memguard_integrations.autofeat.transformer import Score, Transformer, batch_rows_for, sliced

__all__ = ["TARGET", "fit", "predict", "score", "source_of", "transform"]


def source_of(frame: Any, target: Any = None) -> FrameSource:
    """Return features, and a target where there is one, as a source.

    Args:
        frame: a pandas frame, or anything numpy takes for a two-dimensional array.
        target: one value a row, or ``None``.

    Raises:
        DataError: for another shape, a length that differs, columns of no known type.
    """
    frame = _as_frame(frame)
    if target is None:
        return FrameSource(frame)
    values = target if isinstance(target, pd.Series) else np.asarray(target)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(f"has the shape {values.shape}", subject="y", remedy="give one value a row")
    if len(values) != len(frame):
        raise DataError(
            f"has {len(values):,} values", subject="y", remedy=f"give one for each of {len(frame):,} rows"
        )
    if TARGET in frame.columns:
        raise DataError(f"has a column {TARGET!r}", subject="X", remedy="give it another name")
    return FrameSource(frame, target=pd.Series(values))


def _as_frame(frame: Any) -> pd.DataFrame:
    if isinstance(frame, pd.DataFrame):
        return frame
    values = np.asarray(frame)
    if values.ndim != 2:
        raise DataError(f"has the shape {values.shape}", subject="X", remedy="give rows and columns")
    # AutoFeat's own names for columns without one.
    return pd.DataFrame(values, columns=[f"x{place:03}" for place in range(values.shape[1])], copy=False)


def fit(frame: Any, target: Any, survey: Survey, settings: FitSettings) -> FittedModel:
    """Fit on every usable row."""
    progress = Progress()
    progress.phase("prepare")
    source = source_of(frame, target)
    rows = sample_rows(usable_rows(source, survey.plan), None, settings.seed)
    prepared = prepare(source, survey.plan, survey.facts, rows)
    fitted, _, _ = fit_engine(prepared.features, prepared.target, prepared.plan, settings, progress)
    classes = _typed_classes(survey.plan.classes, target)
    return replace(fitted, fills=prepared.fills, warnings=prepared.warnings, classes=classes)


def _typed_classes(labels: tuple[str, ...], target: Any) -> tuple[Any, ...]:
    kind = pd.Series(np.asarray(target).ravel() if not isinstance(target, pd.Series) else target).dtype
    if pd.api.types.is_bool_dtype(kind):
        return tuple(label == "1" for label in labels)
    if pd.api.types.is_integer_dtype(kind):
        return tuple(int(label) for label in labels)
    return tuple(float(label) for label in labels) if pd.api.types.is_float_dtype(kind) else labels


def transform(frame: Any, fitted: FittedModel, batch_rows: int | None) -> pd.DataFrame:
    """Transform in batches into one result."""
    source = _source_for(frame, fitted)
    work = _Work(source, fitted, batch_rows)
    result = np.empty((source.rows, len(work.transformer.columns)), order="F")
    for first, _, engineered in work:
        result[first : first + len(engineered)] = engineered.to_numpy()
    index = frame.index if isinstance(frame, pd.DataFrame) else None
    return pd.DataFrame(result, columns=work.transformer.columns, index=index, copy=False)


def predict(frame: Any, fitted: FittedModel, batch_rows: int | None, *, proba: bool = False) -> Any:
    """Predict in batches."""
    work = _Work(_source_for(frame, fitted), fitted, batch_rows)
    ask = work.transformer.predict_proba if proba else work.transformer.predict
    found = [ask(engineered) for _, _, engineered in work]
    width = (len(fitted.plan.classes),) if proba else ()
    result = np.concatenate(found) if found else np.empty((0, *width))
    return result if proba or fitted.plan.task is Task.REGRESSION else _as_classes(result, fitted)


def _as_classes(codes: Matrix, fitted: FittedModel) -> Any:
    unknown = int(np.isnan(codes).sum())
    if unknown:
        raise DataError(
            f"{unknown:,} rows lack a value that the model needs, and no class stands for that",
            subject="X",
            remedy='leave these rows out, or fit with missing="median"',
        )
    return np.array(fitted.classes)[codes.astype(np.int64)]


def score(frame: Any, target: Any, fitted: FittedModel, batch_rows: int | None) -> float | None:
    """Score in batches."""
    _source_for(frame, fitted)
    work = _Work(source_of(frame, target), fitted, batch_rows)
    board: Score | None = None
    for _, batch, engineered in work:
        values = encode_target(batch.column(TARGET), fitted.plan)
        if board is None:
            known = values[~np.isnan(values)]
            board = Score(fitted.plan.task, float(known.mean()) if len(known) else 0.0)
        if fitted.plan.task is Task.CLASSIFICATION:
            # A class the model has never seen is a miss, not a row to pass over.
            values = np.where(np.isnan(values) & _present(batch.column(TARGET)), -1.0, values)
        board.take(values, work.transformer.predict(engineered))
    return board.value if board is not None else None


def _present(array: pa.Array) -> Any:
    return np.asarray(array.is_valid().to_numpy(zero_copy_only=False), dtype=np.bool_)


def _source_for(frame: Any, fitted: FittedModel) -> FrameSource:
    source = source_of(frame)
    for name in fitted.plan.sources:
        if name not in source.names:
            raise DataError(
                f"has no column {name!r}, which the model was fitted on",
                subject="X",
                remedy=nearest_hint(name, source.names),
            )
    return source


class _Work:
    """The batches of a source, each encoded and engineered: first row, the batch itself, the result."""

    def __init__(self, source: FrameSource, fitted: FittedModel, batch_rows: int | None) -> None:
        self._source = source
        self._fitted = fitted
        self.transformer = Transformer(fitted, open_model(fitted), source.label)
        self._rows = batch_rows or batch_rows_for(len(self.transformer.columns))
        self._progress = Progress()

    def __iter__(self) -> Iterator[tuple[int, pa.RecordBatch, pd.DataFrame]]:
        self._progress.phase("transform")
        wanted = [*self._fitted.plan.sources, *([TARGET] if TARGET in self._source.names else [])]
        first = 0
        for batch in self._source.batches(wanted):
            for part in sliced(batch, self._rows):
                yield first, part, self.transformer.engineer(self.transformer.encode(part))
                first += part.num_rows
                self._progress.batch(part.num_rows)
                self._progress.fraction(first / self._source.rows)
        for name, count in self.transformer.unseen.items():
            self._progress.warn(
                f"{count:,} values of {name!r} were not seen in the fit and count as none of its levels"
            )
