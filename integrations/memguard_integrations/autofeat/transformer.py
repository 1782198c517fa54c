"""A fitted model at work on batches: encode, engineer, predict; the same columns for every batch.

Runs inside the worker. Rows with a missing or infinite value keep their place: their engineered columns and
their prediction are NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from memguard_integrations.autofeat.encode import Matrix, encode_features, fill, to_frame, unknown_levels
from memguard_integrations.autofeat.outcome import quiet
from memguard_integrations.autofeat.records import FittedModel, Task

__all__ = ["Score", "Transformer", "batch_rows_for", "sliced"]

# A batch of results; AutoFeat makes about four copies of it on the way.
_BATCH_BYTES: Final = 16 * 1024 * 1024
_FEWEST_ROWS: Final = 1_000
_MOST_ROWS: Final = 50_000


def batch_rows_for(columns: int) -> int:
    """Return how many rows of that many float64 columns make a batch."""
    return max(_FEWEST_ROWS, min(_MOST_ROWS, _BATCH_BYTES // (8 * max(1, columns))))


def sliced(batch: pa.RecordBatch, rows: int) -> Iterator[pa.RecordBatch]:
    """Yield a batch in parts of at most ``rows`` rows, without a copy."""
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


class Transformer:
    """Encodes, engineers and predicts with one fitted model.

    Attributes:
        columns: names of the result's columns: encoded ones, then engineered ones.
        unseen: how many values of a text column the plan does not know, by column, so far.
    """

    def __init__(self, fitted: FittedModel, model: Any, label: str) -> None:
        self._fitted = fitted
        self._model = model
        self._label = label
        self.columns: list[str] = list(fitted.attributes["all_columns_"])
        self.unseen: dict[str, int] = {}

    def encode(self, batch: pa.RecordBatch) -> Matrix:
        """Return the encoded columns of a batch, missing values filled where the policy says so."""
        plan = self._fitted.plan
        for name, count in unknown_levels(batch, plan).items():
            self.unseen[name] = self.unseen.get(name, 0) + count
        return fill(encode_features(batch, plan, self._label), self._fitted.fills)

    def engineer(self, features: Matrix) -> pd.DataFrame:
        """Return encoded and engineered columns; infinite results become NaN."""
        with quiet():
            frame: pd.DataFrame = self._model.transform(to_frame(features, self._fitted.plan))
        values = frame.to_numpy()
        values[~np.isfinite(values)] = np.nan
        return pd.DataFrame(values, columns=self.columns, copy=False)

    def predict(self, engineered: pd.DataFrame) -> Matrix:
        """Return a prediction for each row (a class code for classes), NaN where a needed column is NaN."""
        return self._where_finite(engineered, self._model.prediction_model_.predict, ())

    def predict_proba(self, engineered: pd.DataFrame) -> Matrix:
        """Return rows x classes probabilities, in the order of the plan's classes."""
        model = self._model.prediction_model_
        known = self._where_finite(engineered, model.predict_proba, (len(model.classes_),))
        result = np.where(
            np.isnan(known[:, :1]), np.nan, np.zeros((len(known), len(self._fitted.plan.classes)))
        )
        result[:, model.classes_] = known
        return result

    def _where_finite(self, engineered: pd.DataFrame, predict: Any, shape: tuple[int, ...]) -> Matrix:
        needed = engineered[self._fitted.attributes["good_cols_"]].to_numpy()
        finite = np.isfinite(needed).all(axis=1)
        result = np.full((len(needed), *shape), np.nan)
        if finite.any():
            result[finite] = predict(needed[finite])
        return result


@dataclass
class Score:
    """A score summed over batches: R2 (1 is perfect, 0 as good as the mean), for classes the share of hits.

    Attributes:
        task: which of them.
        center: subtracted from the target before it is squared, so that large targets lose no digits.
        rows: rows scored so far.
    """

    task: Task
    center: float = 0.0
    rows: int = 0
    _hits: int = 0
    _error: float = 0.0
    _total: float = 0.0
    _squares: float = 0.0

    def take(self, target: Matrix, predicted: Matrix) -> None:
        """Add rows; those without a target or a prediction are passed over."""
        scored = ~np.isnan(target) & ~np.isnan(predicted)
        target, predicted = target[scored], predicted[scored]
        self.rows += len(target)
        self._hits += int((target == predicted).sum())
        self._error += float(np.square(target - predicted).sum())
        self._total += float((target - self.center).sum())
        self._squares += float(np.square(target - self.center).sum())

    @property
    def value(self) -> float | None:
        """The score, ``None`` where nothing could be scored."""
        if self.rows == 0:
            return None
        if self.task is Task.CLASSIFICATION:
            return self._hits / self.rows
        spread = self._squares - self._total**2 / self.rows
        return 1.0 - self._error / spread if spread > 0 else None
