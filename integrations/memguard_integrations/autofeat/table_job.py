"""The job over a file: fit on some rows, then transform, score and write all of them in batches.

Runs inside the worker. The table is streamed three times (usable rows, rows to fit on, all rows), so that
memory depends on the rows fitted on and not on the file. Order and index of the rows are kept; the output
holds the encoded columns, the engineered ones, and last the target as it was, so that the file can be trained
on as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from memguard.errors import DataError
from memguard_integrations.autofeat.encode import RowNumbers, encode_target, sample_rows, usable_rows
from memguard_integrations.autofeat.engines import fit
from memguard_integrations.autofeat.outcome import fit_linear
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
from memguard_integrations.autofeat.releasing import release
from memguard_integrations.autofeat.sources import Source, open_source
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
    fitted, model, engineered = fit(prepared.features, prepared.target, prepared.plan, settings, progress)
    fitted = replace(fitted, fills=prepared.fills, warnings=prepared.warnings)
    transformer = Transformer(fitted, model, source.label)
    board = _ScoreBoard.fit(transformer, prepared, engineered.to_numpy(), settings.task)
    # From here on only the numbers of the rows are needed.
    del prepared, engineered
    release()
    pass_over = _Pass(source, survey, transformer, rows, board)
    columns = pass_over.write(output_path, progress)
    _refuse_changed(source, survey.facts)
    return TableResult(
        model=fitted,
        fitted=board.fitted.scores(),
        held_out=board.held_out.scores(),
        rows=survey.facts.rows,
        columns=columns,
        warnings=(*fitted.warnings, *pass_over.warnings()),
    )


def _refuse_changed(source: Source, facts: TableFacts) -> None:
    if source.fingerprint() != facts.fingerprint:
        raise DataError("changed while it was being read", subject=source.label, remedy="run again")


class _RowScores:
    """Scores of the three models on one kind of rows."""

    def __init__(self, task: Task, center: float) -> None:
        self._models = [Score(task, center) for _ in range(3)]

    def take(self, target: Any, predictions: Sequence[Any]) -> None:
        for score, predicted in zip(self._models, predictions, strict=True):
            score.take(target, predicted)

    def scores(self) -> Scores:
        autofeat, engineered, plain = (score.value for score in self._models)
        return Scores(self._models[0].rows, autofeat, engineered, plain)


class _ScoreBoard:
    """The three models, and their scores on the rows fitted on and on the others."""

    def __init__(
        self, transformer: Transformer, engineered: Any, plain: Any, task: Task, center: float
    ) -> None:
        self._transformer = transformer
        self._engineered = engineered
        self._plain = plain
        self.fitted = _RowScores(task, center)
        self.held_out = _RowScores(task, center)

    @classmethod
    def fit(cls, transformer: Transformer, prepared: Prepared, engineered: Any, task: Task) -> _ScoreBoard:
        return cls(
            transformer,
            fit_linear(engineered, prepared.target, task),
            fit_linear(prepared.features, prepared.target, task),
            task,
            float(prepared.target.mean()),
        )

    def take(self, seen: Any, target: Any, features: Any, engineered: pd.DataFrame) -> int:
        """Score a batch; returns how many rows with all features known have no engineered value somewhere."""
        known = np.isfinite(features).all(axis=1)
        # All three are scored on the same rows: those where every column of the output has a value.
        finite = np.isfinite(engineered.to_numpy()).all(axis=1)
        target, seen = target[finite], seen[finite]
        if finite.any():
            whole = engineered.loc[finite]
            predictions = (
                self._transformer.predict(whole),
                self._engineered.predict(whole.to_numpy()),
                self._plain.predict(features[finite]),
            )
            for rows, scores in ((seen, self.fitted), (~seen, self.held_out)):
                scores.take(target[rows], [predicted[rows] for predicted in predictions])
        return int((known & ~finite).sum())


class _Pass:
    """The pass over all rows: transform, score, write."""

    def __init__(
        self,
        source: Source,
        survey: Survey,
        transformer: Transformer,
        fitted_rows: RowNumbers,
        board: _ScoreBoard,
    ) -> None:
        self._source = source
        self._plan = survey.plan
        self._facts = survey.facts
        self._transformer = transformer
        self._fitted_rows = fitted_rows
        self._board = board
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
        seen = _among(self._fitted_rows, first, batch.num_rows)
        self._undefined += self._board.take(seen, target, features, engineered)
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
                f"{self._undefined:,} rows lie where an engineered column has no finite value (a division by "
                "zero, a logarithm of a negative number); it is empty there and they are not scored"
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
