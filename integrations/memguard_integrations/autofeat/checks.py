"""From what a table holds to what is done with it: facts in, a `FeaturePlan` or a one-line refusal out. Pure.

Refused is what would give a wrong or no result; left out, filled or renamed is what can be helped, and every
such help is in ``FeaturePlan.warnings``. Start with `make_plan`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from memguard.errors import DataError
from memguard_integrations.autofeat.names import safe_names
from memguard_integrations.autofeat.records import (
    MAX_CLASSES,
    MAX_LEVELS,
    MIN_ROWS,
    ColumnFacts,
    ColumnKind,
    EncodedColumn,
    EncodedPart,
    FeaturePlan,
    MissingPolicy,
    TableFacts,
    Task,
)
from memguard_integrations.autofeat.wording import FLAGS, Wording

__all__ = ["check_usable_rows", "make_plan"]

# Named in one warning at most; the rest is counted.
_NAMED: Final = 6
_NEEDED: Final = f"AutoFeat needs {MIN_ROWS} to cross-validate"


def make_plan(
    facts: TableFacts, target: str, task: Task, missing: MissingPolicy, wording: Wording = FLAGS
) -> FeaturePlan:
    """Decide how a table becomes numbers.

    Args:
        facts: of the feature columns and of the target.
        target: the target's column, one of the facts.
        task: what is predicted.
        missing: what becomes of missing values in features.
        wording: how remedies are written.

    Raises:
        DataError: for no rows, an unusable target, columns that cannot become numbers, missing values where
            they are refused, or no column that is left.
    """
    _check_rows(facts)
    answer = _Target(facts, facts.column(target), wording)
    classes = answer.classes() if task is Task.CLASSIFICATION else answer.number()
    features = [column for column in facts.columns if column.name != target]
    _refuse_unusable(facts.source, features, wording)
    kept, dropped = _drop_empty(features)
    if not kept:
        raise DataError(
            f"no column is left to learn from: {'; '.join(dropped) or 'there is none beside the target'}",
            subject=facts.source,
            remedy="give a table with at least one column whose values differ",
        )
    gaps = _check_missing(facts.source, kept, missing, wording)
    columns = tuple(encoded for column in kept for encoded in _encode(column))
    named, renamed = _with_safe_names(columns, target)
    return FeaturePlan(
        task=task,
        target=target,
        classes=classes,
        columns=named,
        kinds=tuple((column.name, column.kind) for column in kept),
        levels=tuple(
            (column.name, tuple(level for level, _ in column.levels))
            for column in kept
            if column.kind is ColumnKind.TEXT
        ),
        missing=missing,
        warnings=(*facts.notes, *answer.warnings(classes), *dropped, *gaps, *_expansions(kept), *renamed),
    )


def check_usable_rows(
    plan: FeaturePlan, facts: TableFacts, usable: int, wording: Wording = FLAGS
) -> tuple[str, ...]:
    """Return what to say of the rows that cannot be used.

    Args:
        plan: the plan.
        facts: of the whole table.
        usable: rows whose target is known, and whose features are too where missing ones are skipped.
        wording: how remedies are written.

    Raises:
        DataError: if fewer than `MIN_ROWS` are left.
    """
    skipped = facts.rows - usable
    worst = _most_missing(facts, plan)
    gaps = worst.missing + worst.infinite
    most = f" (most are missing in {wording.column(worst.name, plan.target)}: {gaps:,})" if gaps else ""
    if usable < MIN_ROWS:
        fill = f"leave that column out, or use {wording.setting('missing', 'median')}"
        raise DataError(
            f"has {_count(usable, 'usable row')} of {facts.rows:,}{most}; {_NEEDED}",
            subject=facts.source,
            # A target is neither filled nor left out.
            remedy=fill if gaps and worst.name != plan.target else "give more rows whose target is known",
        )
    if not skipped:
        return ()
    said = f"{_count(skipped, 'row')} of {facts.rows:,} with missing values"
    return (f"{said} are not used for fitting or scoring; they stay in the output{most}",)


def _check_rows(facts: TableFacts) -> None:
    if facts.rows < MIN_ROWS:
        raise DataError(
            f"has {_count(facts.rows, 'row')}; {_NEEDED}",
            subject=facts.source,
            remedy="give a table with more rows",
        )


class _Target:
    """The checks of the target's column."""

    def __init__(self, facts: TableFacts, target: ColumnFacts, wording: Wording) -> None:
        self._source, self._rows = facts.source, facts.rows
        self._target, self._wording = target, wording
        if target.kind is ColumnKind.EMPTY:
            raise self._error("has no values", "{another} that has some")
        if target.infinite:
            raise self._error(
                f"has {_count(target.infinite, 'infinite value')}",
                "replace them, or leave them empty: rows without a target are not used",
            )

    def _error(self, problem: str, remedy: str) -> DataError:
        return self._wording.target_error(self._source, self._target.name, problem, remedy)

    def _task(self, task: Task) -> str:
        return f"use {self._wording.setting('task', task.value)}"

    def number(self) -> tuple[str, ...]:
        """Check a target that is to be a number; it has no classes."""
        target = self._target
        if target.kind is not ColumnKind.NUMBER:
            shown = f" ({target.detail})" if target.detail else ""
            few = target.kind is ColumnKind.TEXT and not target.too_many_levels
            raise self._error(
                f"is {_kind_name(target)}, not a number{shown}",
                self._task(Task.CLASSIFICATION) if few else "{another} of numbers",
            )
        if target.is_constant:
            raise self._error(f"is always {target.lowest:g}", "{another} whose values differ")
        return ()

    def classes(self) -> tuple[str, ...]:
        """Return the classes of a target that is to be one of a few."""
        target = self._target
        if target.kind not in (ColumnKind.NUMBER, ColumnKind.TEXT):
            raise self._error(f"is {_kind_name(target)}, not a class", "{another} of classes")
        if target.kind is ColumnKind.NUMBER and not target.whole:
            raise self._error("is a number with fractions, not a class", self._task(Task.REGRESSION))
        if not target.too_many_levels and len(target.levels) == 1:
            raise self._error(f"has one class only ({target.levels[0][0]!r})", "{another} with two or more")
        self._refuse_many()
        levels = tuple(level for level, _ in target.levels)
        # In the order in which scikit-learn's scores take the columns of probabilities.
        return levels if target.kind is ColumnKind.NUMBER else tuple(sorted(levels))

    def _refuse_many(self) -> None:
        target, known = self._target, self._rows - self._target.missing
        counts = [count for _, count in target.levels]
        if not target.too_many_levels and len(counts) < known and max(counts) >= 5:
            return
        many = f"more than {MAX_CLASSES}" if target.too_many_levels else f"{len(counts):,}"
        numeric = target.kind is ColumnKind.NUMBER
        raise self._error(
            f"has {many} classes in {known:,} rows, too few rows for each",
            f"{self._task(Task.REGRESSION)}, or group the classes" if numeric else "group the classes",
        )

    def warnings(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Say which classes are rare."""
        rare = [level for level, count in self._target.levels if classes and count < 5]
        few = f"fewer than 5 rows of {_listed(rare)}: five-fold cross-validation will not see each class each time"
        return (few,) if rare else ()


def _kind_name(column: ColumnFacts) -> str:
    names = {
        ColumnKind.TIME: "a date or time",
        ColumnKind.TEXT: "text",
        ColumnKind.OTHER: f"of type {column.detail}",
    }
    return names.get(column.kind, column.kind.value)


def _refuse_unusable(source: str, features: Sequence[ColumnFacts], wording: Wording) -> None:
    reasons = {column.name: reason for column in features if (reason := _unusable(column))}
    if not reasons:
        return
    first, reason = next(iter(reasons.items()))
    others = [name for name in reasons if name != first]
    also = f" (also: {_listed(others)})" if others else ""
    usable = [
        column.name
        for column in features
        if column.name not in reasons and column.kind is not ColumnKind.EMPTY and not column.is_constant
    ]
    choice = wording.columns(usable) if usable else "add numeric columns"
    raise DataError(f"column {first!r} {reason}{also}", subject=source, remedy=choice)


def _unusable(column: ColumnFacts) -> str:
    if column.kind is ColumnKind.OTHER:
        return f"is of type {column.detail}, which is neither number, text nor time"
    if column.kind is not ColumnKind.TEXT:
        return ""
    levels = len(column.levels)
    if column.too_many_levels or levels > MAX_LEVELS:
        many = f"more than {MAX_CLASSES:,}" if column.too_many_levels else f"{levels:,}"
        # In the first row it is a column of text; further down it is one bad value in a column of numbers.
        stray = column.detail and not column.detail.endswith("in data row 1")
        detail = f" (no number: {column.detail})" if stray else ""
        return (
            f"is text with {many} different values{detail}, and at most {MAX_LEVELS} can be one-hot encoded"
        )
    return ""


def _drop_empty(features: Sequence[ColumnFacts]) -> tuple[list[ColumnFacts], list[str]]:
    empty = [column.name for column in features if column.kind is ColumnKind.EMPTY]
    constant = [
        f"{column.name} (always {_constant(column)})"
        for column in features
        if column.is_constant and not column.infinite
    ]
    kept = [
        column
        for column in features
        if column.kind is not ColumnKind.EMPTY and (column.infinite or not column.is_constant)
    ]
    said = [f"left out, no values at all: {_listed(empty)}"] if empty else []
    return kept, said + ([f"left out, constant: {_listed(constant)}"] if constant else [])


def _constant(column: ColumnFacts) -> str:
    return repr(column.levels[0][0]) if column.kind is ColumnKind.TEXT else f"{column.lowest:g}"


def _check_missing(
    source: str, kept: Sequence[ColumnFacts], policy: MissingPolicy, wording: Wording
) -> list[str]:
    missing = [column for column in kept if column.missing]
    infinite = [column for column in kept if column.infinite]
    if policy is MissingPolicy.ERROR and infinite:
        raise _refuse_values(
            source, infinite[0], f"{_count(infinite[0].infinite, 'infinite value')}", wording
        )
    if policy is MissingPolicy.ERROR and missing:
        raise _refuse_values(source, missing[0], f"{_count(missing[0].missing, 'missing value')}", wording)
    said = []
    if infinite:
        counted = [f"{column.name} ({column.infinite:,})" for column in infinite]
        said.append(f"infinite values are taken as missing: {_listed(counted)}")
    if policy is MissingPolicy.MEDIAN and (missing or infinite):
        counted = [
            f"{column.name} ({column.missing + column.infinite:,})" for column in {*missing, *infinite}
        ]
        said.append(f"filled with the median or most frequent value: {_listed(sorted(counted))}")
    return said


def _refuse_values(source: str, column: ColumnFacts, what: str, wording: Wording) -> DataError:
    skip, fill = (wording.setting("missing", policy) for policy in ("skip", "median"))
    return DataError(
        f"column {column.name!r} has {what}",
        subject=source,
        remedy=f"use {skip} to leave those rows out of the fit, or {fill} to fill them",
    )


def _encode(column: ColumnFacts) -> list[EncodedColumn]:
    if column.kind is ColumnKind.TIME:
        return [
            EncodedColumn(f"{column.name}_{part.value}", column.name, part, origin_s=column.lowest or 0.0)
            for part in column.parts
        ]
    if column.kind is not ColumnKind.TEXT:
        return [EncodedColumn(column.name, column.name)]
    return [
        EncodedColumn(f"{column.name}_{level}", column.name, EncodedPart.LEVEL, level)
        for level in _shown_levels(column)
    ]


def _shown_levels(column: ColumnFacts) -> list[str]:
    levels = [level for level, _ in column.levels]
    # Of two levels the second is all the information; both would be one column and its mirror image.
    return levels[1:] if len(levels) == 2 else levels


def _with_safe_names(
    columns: Sequence[EncodedColumn], target: str
) -> tuple[tuple[EncodedColumn, ...], list[str]]:
    # Two sources may make one name (a_b with level c, a with level b_c): numbered apart before they are
    # cleaned.
    unique = _numbered_apart([column.name for column in columns])
    safe = safe_names(unique, reserved=[target])
    named = tuple(
        EncodedColumn(safe[name], column.source, column.part, column.level, column.origin_s)
        for name, column in zip(unique, columns, strict=True)
    )
    renamed = [
        f"{column.name} for {column.source!r}"
        for column in named
        if column.part is EncodedPart.VALUE and column.name != column.source
    ]
    return named, [f"written in formulas as {_listed(renamed)}"] if renamed else []


def _numbered_apart(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return result


def _expansions(kept: Sequence[ColumnFacts]) -> Iterable[str]:
    for column in kept:
        if column.kind is ColumnKind.TIME:
            yield f"{column.name} (date or time, UTC) became {', '.join(part.value for part in column.parts)}"
        elif column.kind is ColumnKind.TEXT:
            yield f"{column.name} (text) became 0/1 columns for {_listed(_shown_levels(column))}"


def _most_missing(facts: TableFacts, plan: FeaturePlan) -> ColumnFacts:
    used = [facts.column(name) for name in (plan.target, *plan.sources)]
    return max(used, key=lambda column: column.missing + column.infinite)


def _listed(names: Sequence[str]) -> str:
    if len(names) <= _NAMED:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
