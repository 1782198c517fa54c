"""Rows become numbers by a fixed plan: Arrow batches in, float64 matrices out, the same columns each time.

AutoFeat's own one-hot encoder is fitted again inside each ``transform``, so that a batch without a category
would get other columns; here categories are fixed by the plan, and AutoFeat sees numbers only. Runs inside
the worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from memguard.errors import DataError
from memguard_integrations.autofeat.records import (
    ColumnKind,
    EncodedColumn,
    EncodedPart,
    FeaturePlan,
    MissingPolicy,
    TableFacts,
    Task,
)
from memguard_integrations.autofeat.sources import Source
from memguard_integrations.autofeat.survey import as_numbers, as_texts, as_times, time_part

__all__ = [
    "Mask",
    "Matrix",
    "RowNumbers",
    "collect",
    "drop_constant",
    "encode_features",
    "encode_target",
    "fill",
    "medians",
    "sample_rows",
    "to_frame",
    "unknown_levels",
    "usable_rows",
]

Matrix = np.ndarray[Any, np.dtype[np.float64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
RowNumbers = np.ndarray[Any, np.dtype[np.int64]]

_DAY_S: Final = 86_400.0


def encode_features(batch: pa.RecordBatch, plan: FeaturePlan, label: str) -> Matrix:
    """Return a batch's features, NaN where a value is missing or infinite.

    Returns:
        rows x encoded columns, each column contiguous.

    Raises:
        DataError: if a value is of another kind than the plan's facts said, naming the column.
    """
    matrix = np.empty((batch.num_rows, len(plan.columns)), dtype=np.float64, order="F")
    kinds, levels = dict(plan.kinds), dict(plan.levels)
    for source, kind in kinds.items():
        places = [place for place, column in enumerate(plan.columns) if column.source == source]
        try:
            values = _prepare(batch.column(source), kind)
        except pa.ArrowInvalid as error:
            raise DataError(
                f"column {source!r} holds a value that is no {kind.value}, unlike the rows fitted on",
                subject=label,
                remedy="correct it, or fit on a table that has such values",
            ) from error
        for place in places:
            matrix[:, place] = _encode_column(values, plan.columns[place], levels.get(source, ()))
    return matrix


def _prepare(array: pa.Array, kind: ColumnKind) -> Any:
    if kind is ColumnKind.TEXT:
        return as_texts(array)
    return as_times(array) if kind is ColumnKind.TIME else as_numbers(array)


def _encode_column(values: Any, column: EncodedColumn, levels: Sequence[str]) -> Matrix:
    if column.part is EncodedPart.LEVEL:
        return as_numbers(pc.equal(values, pa.scalar(column.level)))
    if column.part is EncodedPart.VALUE:
        with np.errstate(over="ignore"):
            return np.where(np.isfinite(values.astype(np.float32)), values, np.nan)
    parts = time_part(values, column.part)
    return (parts - column.origin_s) / _DAY_S if column.part is EncodedPart.ELAPSED else parts


def unknown_levels(batch: pa.RecordBatch, plan: FeaturePlan) -> dict[str, int]:
    """Count, by text column, values that the plan's table did not have; they encode as all zeros."""
    counts = {}
    for source, levels in plan.levels:
        texts = as_texts(batch.column(source)).drop_null()
        known = pc.sum(pc.is_in(texts, value_set=pa.array(levels, pa.string()))).as_py() or 0
        if len(texts) > known:
            counts[source] = len(texts) - known
    return counts


def encode_target(array: pa.Array, plan: FeaturePlan) -> Matrix:
    """Return the target as numbers: its values, or for classification the class's place in ``plan.classes``.

    NaN where the target is missing or of an unknown class.
    """
    if plan.task is Task.REGRESSION:
        return as_numbers(array)
    if (
        pa.types.is_large_string(array.type)
        or pa.types.is_dictionary(array.type)
        or not _are_numbers(plan.classes)
    ):
        return as_numbers(pc.index_in(as_texts(array), value_set=pa.array(plan.classes, pa.string())))
    labels, values = np.array([float(label) for label in plan.classes]), as_numbers(array)
    codes = np.minimum(np.searchsorted(labels, values), len(labels) - 1)
    return np.where(labels[codes] == values, codes.astype(np.float64), np.nan)


def _are_numbers(labels: Sequence[str]) -> bool:
    # The survey writes whole numbers as labels in ascending order, without leading zeros.
    return all(label.removeprefix("-").isdecimal() and str(int(label)) == label for label in labels)


def usable_rows(source: Source, plan: FeaturePlan) -> Mask:
    """Return for each row whether it can be fitted and scored on.

    A row can if its target is known and, unless missing features are filled, every feature is.
    """
    masks = []
    needed = plan.sources if plan.missing is not MissingPolicy.MEDIAN else ()
    for batch in source.batches((*needed, plan.target)):
        usable = ~np.isnan(encode_target(batch.column(plan.target), plan))
        if needed:
            usable &= ~np.isnan(encode_features(batch, plan, source.label)).any(axis=1)
        masks.append(usable)
    return np.concatenate(masks) if masks else np.zeros(0, dtype=np.bool_)


def sample_rows(usable: Mask, count: int | None, seed: int) -> RowNumbers:
    """Return row numbers in ascending order: all usable ones, or a seeded random sample of ``count``."""
    places = np.flatnonzero(usable)
    if count is None or count >= len(places):
        return places
    return np.sort(np.random.default_rng(seed).choice(places, size=count, replace=False))


def collect(source: Source, plan: FeaturePlan, rows: RowNumbers) -> tuple[Matrix, Matrix]:
    """Return the encoded features and target of the given rows, ascending; other rows are only passed by."""
    features = np.empty((len(rows), len(plan.columns)), dtype=np.float64, order="F")
    target = np.empty(len(rows), dtype=np.float64)
    done, first = 0, 0
    for batch in source.batches((*plan.sources, plan.target)):
        until = int(np.searchsorted(rows, first + batch.num_rows))
        chosen = batch.take(pa.array(rows[done:until] - first))
        features[done:until] = encode_features(chosen, plan, source.label)
        target[done:until] = encode_target(chosen.column(plan.target), plan)
        done, first = until, first + batch.num_rows
    return features, target


def medians(features: Matrix, plan: FeaturePlan, facts: TableFacts) -> tuple[float, ...]:
    """Return what a missing value becomes, one figure for each encoded column.

    The median over the given rows; for a level of a text column 1 if it is the most frequent one, else 0.
    """
    commonest = {name: facts.column(name).levels[0][0] for name, _ in plan.levels}
    return tuple(
        float(column.level == commonest[column.source])
        if column.part is EncodedPart.LEVEL
        else float(np.nanmedian(features[:, place]))
        for place, column in enumerate(plan.columns)
    )


def fill(features: Matrix, fills: Sequence[float]) -> Matrix:
    """Put ``fills`` in place of NaN, in the given matrix itself; nothing happens without fills."""
    for place, value in enumerate(fills):
        column = features[:, place]
        column[np.isnan(column)] = value
    return features


def drop_constant(features: Matrix, plan: FeaturePlan) -> tuple[Matrix, FeaturePlan, tuple[str, ...]]:
    """Leave out columns that are constant in the fitted rows.

    As 32-bit floats, which is what AutoFeat works on: it divides by their spread.

    Raises:
        DataError: if no column is left.
    """
    with np.errstate(invalid="ignore"):
        lowest, highest = features.min(axis=0).astype(np.float32), features.max(axis=0).astype(np.float32)
    varying = np.flatnonzero(lowest < highest)
    if len(varying) == 0:
        raise DataError(
            f"every column is constant in the {len(features):,} rows to fit on",
            subject=", ".join(plan.sources[:6]),
            remedy="fit on more rows",
        )
    dropped = tuple(name for place, name in enumerate(plan.names) if place not in set(varying.tolist()))
    if not dropped:
        return features, plan, ()
    columns = tuple(plan.columns[place] for place in varying)
    return np.asfortranarray(features[:, varying]), replace(plan, columns=columns), dropped


def to_frame(features: Matrix, plan: FeaturePlan, index: Any = None) -> pd.DataFrame:
    """Return the matrix as the frame AutoFeat is given; the matrix is not copied."""
    return pd.DataFrame(features, columns=list(plan.names), index=index, copy=False)
