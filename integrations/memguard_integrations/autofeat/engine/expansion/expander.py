"""The steps of an expansion: what is made from what, what is stored for how long, and what is the result.

Comes in: a frame of numbers. Goes out: an `Expansion`, whose columns stand in autofeat's order. A column of the result
is stored once, where it stays; one that only others are made from is stored apart, until nothing needs it any more.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, Final, Self

import numpy as np
import pandas as pd
import sympy

from memguard.host.cpus import usable_cpus
from memguard.units import MIB
from memguard_integrations.autofeat.engine.columns import Allowance, Columns, ColumnStore, Floats
from memguard_integrations.autofeat.engine.expansion import symbols
from memguard_integrations.autofeat.engine.expansion.candidates import Candidate, Candidates, Feature, Units
from memguard_integrations.autofeat.engine.expansion.decisions import Moments
from memguard_integrations.autofeat.engine.expansion.evaluation import Evaluation, Judged
from memguard_integrations.autofeat.engine.expansion.references import References
from memguard_integrations.autofeat.engine.kernels.operations import COMBINATIONS
from memguard_integrations.autofeat.engine.scratch import ScratchFull

__all__ = ["DEFAULT_TRANSFORMATIONS", "Expansion", "ExpansionProgress", "expand"]

DEFAULT_TRANSFORMATIONS: Final = ("1/", "exp", "log", "abs", "sqrt", "^2", "^3")

# What formulas, names and sympy's own caches take beside the columns.
_FORMULAS_BYTES: Final = 32 * MIB
_TOLD_EVERY: Final = 100
# Read pages of scratch files are this process's until it lets go of them.
_READ_PAGES_BYTES: Final = 8 * MIB

_log = logging.getLogger("memguard.autofeat")


@dataclass(frozen=True, slots=True)
class ExpansionProgress:
    """How far an expansion is.

    Attributes:
        step: the current step, from 1.
        steps: how many there are.
        tried: candidates tried so far, in all steps.
        columns: columns of the result so far, the given ones among them.
        stored_bytes: what is stored, in memory and on disk.
    """

    step: int
    steps: int
    tried: int
    columns: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class Expansion:
    """What came of an expansion; closing it frees the columns that nobody looks at.

    Attributes:
        names: labels of the columns: those given, then the new ones, in autofeat's order.
        columns: the same, float32.
        formulas: autofeat's feature pool: formulas by name, also of new columns that are too much like a given one.
    """

    names: tuple[str, ...]
    columns: Columns
    formulas: dict[str, sympy.Expr]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the columns; a view of one stays good."""
        if isinstance(self.columns, ColumnStore):
            self.columns.close()


def expand(
    frame: pd.DataFrame,
    start_features: Sequence[Hashable] | None = None,
    units: Units | None = None,
    max_steps: int = 3,
    transformations: Sequence[str] = DEFAULT_TRANSFORMATIONS,
    *,
    memory_bytes: int | None = None,
    scratch_dir: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    accepts: Callable[[Floats], bool] | None = None,
    on_progress: Callable[[ExpansionProgress], None] | None = None,
    verbose: int = 0,
) -> Expansion:
    """Make new columns from those of a frame, the same as autofeat 2.1.3 to the last bit.

    Args:
        frame: rows x columns, all numbers (or what pandas takes for such).
        start_features: labels of the columns that others are made from; ``None`` for all.
        units: a pint quantity for each of those, extended in place; combinations that units forbid are left out.
        max_steps: 1 transforms, 2 combines, 3 transforms what was combined, 4 combines that with what was before; 0
            makes nothing.
        transformations: of ``1/ exp log abs sqrt ^2 ^3 1+ 1- sin cos exp- 2^``, in the order in which they are tried.
        memory_bytes: what may be held in memory, beside the frame; the rest is held on disk. ``None`` for no bound.
        scratch_dir: where on disk; ``None`` for the system's directory for temporary files.
        threads: how many processors to use; ``None`` for those that this process can have. The result is the same.
        accepts: asked of each new column, in their order, whether it is to be among the result; ``None`` takes all.
            What others are made from is made all the same.
        on_progress: called in this thread, some times in each step.
        verbose: above 0, the steps are logged.

    Returns:
        The columns, to be closed.

    Raises:
        KeyError: if there is no such transformation.
        ScratchFull: if the disk has no room for what does not fit into memory; nothing is left there.
        ValueError: if there is no such start feature, two columns have one label, a value is infinite, or a new column
            would have the label of a given one.
    """
    threads = usable_cpus() if threads is None else threads
    labels = list(frame.columns) if start_features is None else list(start_features)
    _check(frame, labels)
    allowance = Allowance(memory_bytes)
    result = ColumnStore(len(frame), memory=allowance, scratch_dir=scratch_dir)
    with Evaluation(len(frame), References(frame), threads) as evaluation:
        if memory_bytes is not None:
            other_bytes = evaluation.buffer_bytes + 2 * 8 * frame.size + _FORMULAS_BYTES
            allowance.limit_bytes = max(0, memory_bytes - other_bytes)
        expander = _Expander(frame, labels, max_steps, result, evaluation)
        expander.on_progress = on_progress
        expander.accepts = accepts
        expander.candidates = Candidates(labels, transformations, units)
        expander.new_store = lambda: ColumnStore(len(frame), memory=allowance, scratch_dir=scratch_dir)
        expander.is_logged = verbose > 0
        try:
            return expander.run()
        except BaseException:
            result.close()
            raise
        finally:
            expander.close()


def _check(frame: pd.DataFrame, labels: Sequence[Hashable]) -> None:
    known = set(frame.columns)
    if missing := [label for label in labels if label not in known]:
        raise ValueError(f"no columns {missing!r} in the frame; its columns are {list(frame.columns)!r:.200}")
    if not frame.columns.is_unique:
        twice = sorted({str(label) for label in frame.columns[frame.columns.duplicated()]})
        raise ValueError(f"columns share a label: {', '.join(twice)}; each needs one of its own")


class _Expander:
    """One expansion, from its first step to its result."""

    candidates: Candidates
    new_store: Callable[[], ColumnStore]
    is_logged: bool
    on_progress: Callable[[ExpansionProgress], None] | None
    accepts: Callable[[Floats], bool] | None

    def __init__(
        self,
        frame: pd.DataFrame,
        labels: Sequence[Hashable],
        max_steps: int,
        result: ColumnStore,
        evaluation: Evaluation,
    ) -> None:
        self._frame = frame
        self._max_steps = max_steps
        self._result = result
        self._evaluation = evaluation
        self._formulas: dict[Any, sympy.Expr] = symbols.start_symbols(labels)
        self._names: list[Any] = list(frame.columns)
        self._given = frozenset(frame.columns)
        self._passing: list[ColumnStore] = []
        self._step = 0
        self._tried = 0
        self._read_bytes = 0

    def run(self) -> Expansion:
        """Do all the steps."""
        features = self._store_frame()
        if self._max_steps >= 1:
            self._expand(features)
        self._log("%d new columns in all", len(self._names) - len(self._given))
        self._tell()
        return Expansion(tuple(self._names), self._result, self._formulas)

    def close(self) -> None:
        """Free what is not of the result."""
        for store in self._passing:
            store.close()

    def _store_frame(self) -> list[Feature]:
        places = {}
        for place, label in enumerate(self._frame.columns):
            values = np.asarray(self._frame.iloc[:, place].astype(np.float32), dtype=np.float32)
            places[label] = self._result.append(values)
        return [
            Feature(label, formula, self._result, places[label], self._moments(places[label]))
            for label, formula in self._formulas.items()
        ]

    def _moments(self, place: int) -> Moments:
        return Moments.of_column(self._result.column(place))

    def _expand(self, features: list[Feature]) -> None:
        """Transform and combine by turns; what the last step makes is nobody's parent and need not be stored for it."""
        old = [*features, *self._transform(features)]
        if self._step == self._max_steps:
            return
        new = self._combine(combinations(old, 2), math.comb(len(old), 2), next_use=1)
        while self._step < self._max_steps:
            new += self._transform(new)
            if self._step == self._max_steps:
                return
            # Between products of old and new and their own first use, new ones are combined among themselves.
            newest = self._combine(product(old, new), len(old) * len(new), next_use=2)
            if self._step == self._max_steps:
                return
            newest += self._combine(combinations(new, 2), math.comb(len(new), 2), next_use=1)
            old += new
            new = newest

    def _transform(self, features: list[Feature]) -> list[Feature]:
        self._step += 1
        self._log("step %d: transforming %d columns", self._step, len(features))
        most = len(features) * len(self.candidates.transformations)
        return self._try(self.candidates.transformed(features), most, next_use=1)

    def _combine(self, pairs: Iterator[tuple[Feature, Feature]], count: int, next_use: int) -> list[Feature]:
        self._step += 1
        self._log("step %d: combining %d pairs of columns", self._step, count)
        is_last = self._step == self._max_steps
        candidates = self.candidates.combined(pairs, is_last=is_last)
        return self._try(candidates, count * (1 if is_last else len(COMBINATIONS)), next_use)

    def _try(self, candidates: Iterable[Candidate], most: int, next_use: int) -> list[Feature]:
        """Judge candidates and store those that are kept or needed.

        Args:
            candidates: in their order.
            most: how many there can be.
            next_use: after how many steps the first is made from them.

        Returns:
            Those that others are made from; none if no step is left for that.
        """
        is_needed = self._step + next_use <= self._max_steps
        is_last = self._step == self._max_steps
        passing = self.new_store()
        self._passing.append(passing)
        features: list[Feature] = []
        tried = 0
        full: ScratchFull | None = None
        try:
            for judged in self._evaluation.judged(candidates):
                tried += 1
                if (feature := self._store(judged, passing, is_needed=is_needed)) is not None:
                    features.append(feature)
                if is_last and len(judged.candidate.parents) == 1:
                    self._forget_before(judged.candidate.parents[0])
                self._note_read(judged.candidate)
                if tried % _TOLD_EVERY == 0:
                    self._tell()
                self._tried += 1
        except ScratchFull as error:
            needed_bytes = max(error.needed_bytes, (most - tried) * len(self._frame) * 4)
            full = ScratchFull(path=error.path, needed_bytes=needed_bytes, free_bytes=error.free_bytes)
        if full is not None:
            # Not from within: what the first error came through holds columns, and with them the disk.
            raise full
        self._log("step %d: %d candidates tried", self._step, tried)
        return features

    def _store(self, judged: Judged, passing: ColumnStore, *, is_needed: bool) -> Feature | None:
        """Store what is to stay, or to be a parent; return it if it is to be a parent."""
        values, moments, candidate = judged.values, judged.moments, judged.candidate
        if values is None or moments is None:
            return None
        if candidate.name in self._given:
            raise ValueError(
                f"the new column {candidate.name!r} would have the label of a given one; rename that, or make it a "
                f"start feature"
            )
        if judged.has_formula:
            self._formulas[candidate.name] = candidate.formula
        is_kept = judged.is_kept and (self.accepts is None or self.accepts(values))
        if is_kept:
            self._names.append(candidate.name)
        elif not is_needed:
            return None
        store = self._result if is_kept else passing
        index = store.append(values)
        return Feature(candidate.name, candidate.formula, store, index, moments) if is_needed else None

    def _forget_before(self, parent: Feature) -> None:
        """Free what was transformed for the last time; columns are transformed in the order in which they lie."""
        if parent.store is not self._result:
            parent.store.forget_before(parent.index)

    def _note_read(self, candidate: Candidate) -> None:
        """Leave what was read from disk to the kernel before it is much; for pooled memory this does nothing."""
        self._read_bytes += 4 * len(self._frame) * len(candidate.parents)
        if self._read_bytes >= _READ_PAGES_BYTES:
            self._read_bytes = 0
            for store in (self._result, *self._passing):
                store.let_go_of_pages()

    def _tell(self) -> None:
        if self.on_progress is not None:
            stored = sum(store.pooled_bytes + store.spilled_bytes for store in (self._result, *self._passing))
            self.on_progress(
                ExpansionProgress(self._step, self._max_steps, self._tried, len(self._names), stored)
            )

    def _log(self, text: str, *values: object) -> None:
        if self.is_logged:
            _log.info(text, *values)
