"""One pass over a table: what each column holds. Batches in, `TableFacts` out; nothing is refused here.

Memory is bounded: a few numbers per column, at most a few hundred different texts. Runs inside the worker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memguard_integrations.autofeat.records import (
    MAX_CLASSES,
    ColumnFacts,
    ColumnKind,
    EncodedPart,
    TableFacts,
)
from memguard_integrations.autofeat.sources import Source

__all__ = ["as_numbers", "as_texts", "as_times", "survey", "time_part"]

_NUMBER: Final = (
    r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$|^[+-]?[iI][nN][fF]([iI][nN][iI][tT][yY])?$"
)
_TIME_PARTS: Final = {
    EncodedPart.YEAR: pc.year,
    EncodedPart.MONTH: pc.month,
    EncodedPart.DAY: pc.day,
    EncodedPart.DAYOFWEEK: pc.day_of_week,
    EncodedPart.HOUR: pc.hour,
}


def survey(source: Source, columns: Sequence[str]) -> TableFacts:
    """Read the columns once and tell what they hold.

    Raises:
        DataError: from the source, if it cannot be read.
    """
    fingerprint = source.fingerprint()
    watchers = [_Column(name) for name in columns]
    rows = 0
    for batch in source.batches(columns):
        for watcher, array in zip(watchers, batch.columns, strict=True):
            watcher.take(array, rows)
        rows += batch.num_rows
    facts = tuple(watcher.facts() for watcher in watchers)
    return TableFacts(source.label, rows, facts, fingerprint, source.notes)


def as_numbers(array: pa.Array) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return float64 values, NaN where missing.

    Raises:
        pa.ArrowInvalid: if some text is not a number.
    """
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    return np.asarray(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)


def as_times(array: pa.Array) -> pa.Array:
    """Return timestamps in microseconds without a zone; those with one are turned to UTC.

    Raises:
        pa.ArrowInvalid: if some text is not an ISO date or time.
    """
    if pa.types.is_string(array.type):
        try:
            return array.cast(pa.timestamp("us"))
        except pa.ArrowInvalid:
            array = array.cast(pa.timestamp("us", "UTC"))
    if pa.types.is_timestamp(array.type) and array.type.tz is not None:
        # By way of integers: no time zone database is needed for that.
        return (
            array.cast(pa.timestamp("us", array.type.tz), safe=False)
            .cast(pa.int64())
            .cast(pa.timestamp("us"))
        )
    return array.cast(pa.timestamp("us"), safe=False)


def as_texts(array: pa.Array) -> pa.Array:
    """Return strings, whatever kind of text the column holds."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array.cast(pa.string())


def time_part(times: pa.Array, part: EncodedPart) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return a part of timestamps as float64; ``elapsed_days`` as seconds since 1970."""
    if part is EncodedPart.ELAPSED:
        return as_numbers(times.cast(pa.int64())) / 1e6
    return as_numbers(_TIME_PARTS[part](times))


class _Numbers:
    """Count, range and wholeness of numbers."""

    kind: ColumnKind = ColumnKind.NUMBER

    def __init__(self) -> None:
        self.infinite = 0
        self.lowest = np.inf
        self.highest = -np.inf
        self.whole = True
        self.missing = 0
        self.counts: Counter[float] | None = Counter()

    def take(self, array: pa.Array) -> None:
        self.take_values(as_numbers(array))

    def take_values(self, values: np.ndarray[Any, np.dtype[np.float64]]) -> None:
        missing = np.isnan(values)
        with np.errstate(over="ignore"):
            finite = np.isfinite(values.astype(np.float32))
        self.missing += int(missing.sum())
        self.infinite += int((~finite & ~missing).sum())
        if finite.any():
            good = values[finite]
            self.lowest = min(self.lowest, float(good.min()))
            self.highest = max(self.highest, float(good.max()))
            self.whole = self.whole and bool((good == np.floor(good)).all())
            self._count(good)

    def _count(self, values: np.ndarray[Any, np.dtype[np.float64]]) -> None:
        if self.counts is None or not self.whole:
            self.counts = None
            return
        different, times = np.unique(values, return_counts=True)
        self.counts.update(dict(zip(different[: MAX_CLASSES + 1].tolist(), times.tolist(), strict=False)))
        if len(self.counts) > MAX_CLASSES:
            self.counts = None

    def facts(self, name: str) -> ColumnFacts:
        some = self.lowest <= self.highest
        kind = self.kind if some or self.infinite else ColumnKind.EMPTY
        lowest, highest = (self.lowest, self.highest) if some else (None, None)
        levels = tuple((str(int(value)), count) for value, count in sorted((self.counts or {}).items()))
        return ColumnFacts(
            *(name, kind, self.missing, self.infinite, lowest, highest, self.whole and some),
            levels=levels,
            too_many_levels=self.counts is None,
        )


class _Times(_Numbers):
    """Range of times, and which of their parts vary."""

    kind = ColumnKind.TIME

    def __init__(self) -> None:
        super().__init__()
        self.counts = None
        self.parts = {part: _Numbers() for part in _TIME_PARTS}

    def take(self, array: pa.Array) -> None:
        times = as_times(array)
        self.take_values(time_part(times, EncodedPart.ELAPSED))
        for part, numbers in self.parts.items():
            numbers.take_values(time_part(times, part))

    def facts(self, name: str) -> ColumnFacts:
        plain = super().facts(name)
        varying = tuple(part for part, numbers in self.parts.items() if numbers.lowest < numbers.highest)
        return ColumnFacts(
            name,
            plain.kind,
            plain.missing,
            0,
            plain.lowest,
            plain.highest,
            parts=(*varying, EncodedPart.ELAPSED),
        )


class _Texts:
    """Different texts and how often each occurs, up to a bound."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.missing = 0
        self.too_many = False

    def take(self, array: pa.Array) -> None:
        texts = as_texts(array)
        self.missing += texts.null_count
        if self.too_many:
            return
        counted = pc.value_counts(texts.drop_null())
        self.counts.update(
            {entry["values"].as_py(): entry["counts"].as_py() for entry in counted[: MAX_CLASSES + 1]}
        )
        self.too_many = len(counted) > MAX_CLASSES or len(self.counts) > MAX_CLASSES

    def facts(self, name: str) -> ColumnFacts:
        kind = ColumnKind.TEXT if self.counts else ColumnKind.EMPTY
        # Ties in the order of the alphabet, so that a plan does not depend on the order of the rows.
        levels = tuple(sorted(self.counts.items(), key=lambda each: (-each[1], each[0])))
        return ColumnFacts(name, kind, self.missing, levels=levels, too_many_levels=self.too_many)


class _Column:
    """A column under watch: every reading of it that still fits, the strictest first."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.readings: list[_Numbers | _Texts] | None = None
        self.other = ""
        self.first_text = ""

    def take(self, array: pa.Array, first_row: int) -> None:
        if self.readings is None:
            self.readings = self._readings_for(array.type)
        self.readings = [reading for reading in self.readings if self._fits(reading, array, first_row)]

    def _readings_for(self, kind: pa.DataType) -> list[_Numbers | _Texts]:
        if pa.types.is_string(kind):
            return [_Numbers(), _Times(), _Texts()]
        if pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
            return [_Texts()]
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            return [_Times()]
        if pa.types.is_null(kind) or _is_number(kind):
            return [_Numbers()]
        self.other = str(kind)
        return []

    def _fits(self, reading: _Numbers | _Texts, array: pa.Array, first_row: int) -> bool:
        try:
            reading.take(array)
        except pa.ArrowInvalid:
            if type(reading) is _Numbers:
                self.first_text = _first_text(array, first_row)
            return False
        return True

    def facts(self) -> ColumnFacts:
        if self.readings is None:
            return ColumnFacts(self.name, ColumnKind.EMPTY)
        if not self.readings:
            return ColumnFacts(self.name, ColumnKind.OTHER, detail=self.other)
        facts = self.readings[0].facts(self.name)
        if facts.kind is not ColumnKind.TEXT:
            return facts
        return ColumnFacts(
            self.name,
            facts.kind,
            facts.missing,
            levels=facts.levels,
            too_many_levels=facts.too_many_levels,
            detail=self.first_text,
        )


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind)
    )


def _first_text(array: pa.Array, first_row: int) -> str:
    numbers = pc.match_substring_regex(array, _NUMBER)
    place = pc.index(pc.fill_null(numbers, True), pa.scalar(False)).as_py()
    if place < 0:
        return ""
    shown = array[place].as_py()
    shown = shown if len(shown) <= 30 else shown[:27] + "..."
    return f"{shown!r} in data row {first_row + place + 1:,}"
