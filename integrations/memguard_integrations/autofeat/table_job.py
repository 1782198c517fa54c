"""The job over a file: fit on some rows, then transform, score and write all of them in batches.

Runs inside the worker. The table is streamed three times (usable rows, rows to fit on, all rows), so that memory
depends on the rows fitted on and not on the file. Order and index of the rows are kept; the output holds the encoded
columns, the engineered ones, and last the target as it was, so that the file can be trained on as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from memguard.errors import DataError
from memguard_integrations.autofeat.encode import RowNumbers, encode_target, sample_rows, usable_rows
from memguard_integrations.autofeat.progress import Progress
from memguard_integrations.autofeat.records import (
    ColumnKind,
    FeaturePlan,
    FitSettings,
    Scores,
    Survey,
    TableFacts,
    TableResult,
    Task,
)
from memguard_integrations.autofeat.sources import Source, open_source
from memguard_integrations.autofeat.stock import fit, fit_plain
from memguard_integrations.autofeat.surveying import Prepared, prepare
from memguard_integrations.autofeat.transformer import Score, Transformer, batch_rows_for, sliced

__all__ = ["run_table"]


def run_table(
    path: str, output_path: str, survey: Survey, settings: FitSettings, fit_rows: int | None
) -> TableResult:
    """Do it; see `memguard_integrations.autofeat.jobs.fit_table`."""
    progress = Progress()
    progress.phase("read")
    source = open_source(path)
    _refuse_changed(source, survey.facts)
    rows = sample_rows(usable_rows(source, survey.plan), fit_rows, settings.seed)
    prepared = prepare(source, survey.plan, survey.facts, rows)
    progress.phase("prepare")
    plain = _Plain.fit(prepared, settings.task)
    fitted, model = fit(prepared.features, prepared.target, prepared.plan, settings, progress)
    fitted = replace(fitted, fills=prepared.fills, warnings=prepared.warnings)
    center = float(prepared.target.mean())
    # Only the numbers of the rows are needed from here on; the output gets the memory of the matrix.
    del prepared
    transformer = Transformer(fitted, model, source.label)
    pass_over = _Pass(source, survey, transformer, plain, rows, _ScoreBoard.new(settings.task, center))
    columns = pass_over.write(output_path, progress)
    _refuse_changed(source, survey.facts)
    return TableResult(
        model=fitted,
        scores=pass_over.board.scores(),
        rows=survey.facts.rows,
        columns=columns,
        warnings=(*fitted.warnings, *pass_over.warnings()),
    )


def _refuse_changed(source: Source, facts: TableFacts) -> None:
    if source.fingerprint() != facts.fingerprint:
        raise DataError("changed while it was being read", subject=source.label, remedy="run again")


@dataclass(frozen=True, slots=True)
class _Plain:
    """The plain columns' own model, which the engineered ones have to beat."""

    model: Any

    @classmethod
    def fit(cls, prepared: Prepared, task: Task) -> _Plain:
        return cls(fit_plain(prepared.features, prepared.target, task))

    def predict(self, features: Any) -> Any:
        result = np.full(len(features), np.nan)
        finite = np.isfinite(features).all(axis=1)
        if finite.any():
            result[finite] = self.model.predict(features[finite])
        return result


@dataclass(frozen=True, slots=True)
class _ScoreBoard:
    """Scores on the rows fitted on and on the others, of both models."""

    fitted: Score
    fitted_plain: Score
    held_out: Score
    held_out_plain: Score

    @classmethod
    def new(cls, task: Task, center: float) -> _ScoreBoard:
        return cls(*(Score(task, center) for _ in range(4)))

    def take(self, seen: Any, target: Any, predicted: Any, plain: Any) -> None:
        # Both models are scored on the same rows: those for which both have a prediction.
        plain = np.where(np.isnan(predicted), np.nan, plain)
        for rows, board, plain_board in (
            (seen, self.fitted, self.fitted_plain),
            (~seen, self.held_out, self.held_out_plain),
        ):
            board.take(target[rows], predicted[rows])
            plain_board.take(target[rows], plain[rows])

    def scores(self) -> Scores:
        return Scores(
            fitted=self.fitted.value,
            fitted_plain=self.fitted_plain.value,
            fitted_rows=self.fitted.rows,
            held_out=self.held_out.value,
            held_out_plain=self.held_out_plain.value,
            held_out_rows=self.held_out.rows,
        )


class _Pass:
    """The pass over all rows: transform, score, write."""

    def __init__(
        self,
        source: Source,
        survey: Survey,
        transformer: Transformer,
        plain: _Plain,
        fitted_rows: RowNumbers,
        board: _ScoreBoard,
    ) -> None:
        self._source = source
        self._plan = survey.plan
        self._facts = survey.facts
        self._transformer = transformer
        self._plain = plain
        self._fitted_rows = fitted_rows
        self.board = board
        self._undefined = 0
        self._target_type = _target_type(source, survey.facts.column(survey.plan.target), survey.plan)

    def write(self, path: str, progress: Progress) -> tuple[str, ...]:
        """Write the output; returns the names of its columns."""
        progress.phase("transform")
        done, writer = 0, None
        try:
            for part in self._parts():
                table = self._work_on(part, done)
                writer = writer or pq.ParquetWriter(path, table.schema)
                writer.write_table(table)
                done += part.num_rows
                progress.batch(part.num_rows)
                progress.fraction(done / self._facts.rows)
            progress.phase("write")
        finally:
            if writer is not None:
                writer.close()
        return (*self._transformer.columns, self._plan.target)

    def _parts(self) -> Iterator[pa.RecordBatch]:
        columns = (*self._plan.sources, self._plan.target, *self._source.index.columns)
        rows = batch_rows_for(len(self._transformer.columns))
        for batch in self._source.batches(columns):
            yield from sliced(batch, rows)

    def _work_on(self, batch: pa.RecordBatch, first: int) -> pa.Table:
        features = self._transformer.encode(batch)
        engineered = self._transformer.engineer(features)
        target = encode_target(batch.column(self._plan.target), self._plan)
        known = ~np.isnan(features).any(axis=1)
        predicted = np.where(known, self._transformer.predict(engineered), np.nan)
        self._undefined += int((known & np.isnan(predicted)).sum())
        self.board.take(
            _among(self._fitted_rows, first, batch.num_rows), target, predicted, self._plain.predict(features)
        )
        return self._output(engineered, batch, first)

    def _output(self, engineered: pd.DataFrame, batch: pa.RecordBatch, first: int) -> pa.Table:
        index = self._source.index
        if index.columns:
            # The stored metadata makes pandas set the index as it was, names and levels included.
            engineered.index = pa.Table.from_batches([batch.select(list(index.columns))]).to_pandas().index
        elif not index.is_default:
            start = index.start + first * index.step
            engineered.index = pd.Index(range(start, start + batch.num_rows * index.step, index.step))
        table = pa.Table.from_pandas(engineered, preserve_index=not index.is_default)
        place = len(engineered.columns)
        target = batch.column(self._plan.target)
        if target.type != self._target_type:
            # "12.0" is a whole number too, but Arrow reads it as one only by way of a float.
            target = target.cast(pa.float64()).cast(self._target_type)
        return table.add_column(place, pa.field(self._plan.target, self._target_type), target)

    def warnings(self) -> Iterator[str]:
        """Say what was noticed on the way."""
        for name, count in self._transformer.unseen.items():
            yield f"{count:,} values of {name!r} were not seen in the survey and count as none of its levels"
        if self._undefined:
            yield (
                f"{self._undefined:,} rows lie where an engineered column has no finite value (a division by zero, "
                "a logarithm of a negative number); it is empty there and they are not scored"
            )


def _among(rows: RowNumbers, first: int, count: int) -> Any:
    seen = np.zeros(count, dtype=np.bool_)
    low, high = np.searchsorted(rows, (first, first + count))
    seen[rows[low:high] - first] = True
    return seen


def _target_type(source: Source, target: Any, plan: FeaturePlan) -> pa.DataType:
    kind = next(source.batches([plan.target])).column(0).type
    if not pa.types.is_string(kind) or target.kind is not ColumnKind.NUMBER:
        return kind
    return pa.int64() if target.whole and abs(target.highest) < 2**53 else pa.float64()


