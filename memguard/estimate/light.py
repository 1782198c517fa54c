"""What an AutoFeat fit leaves out where it cannot be had whole: the least loss of score for the memory wanted. Pure.

Comes in: a request, its counts, and a test whether something smaller can be had. Goes out: the smallest loss that does.
Four things can be left out: rows to engineer and select on (the model has all of them), columns that a screen finds to
explain least, transformations, steps.

What each costs was measured over real data sets, as the loss of held-out R2 or accuracy against the same fit whole, the
larger of mean and median; ``docs/autofeat.md`` has the table, ``benchmarks/autofeat.py --only light`` repeats it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

from memguard.estimate.autofeat import AutoFeatCounts, AutoFeatRequest, bound_counts

__all__ = ["LEAN_TRANSFORMATIONS", "Relief", "lightest_loss"]

# The loss of score by the number of rows that are selected on, and by the share of new columns that are taken. Where
# more was left out and less lost, the larger loss counts for both; and where none was lost, the least that is told.
_ROWS_LOSS: Final = ((2_000, 0.002), (1_000, 0.002), (500, 0.0023))
_COLUMNS_LOSS: Final = ((1 / 2, 0.0006), (1 / 4, 0.0006), (1 / 8, 0.0021), (1 / 16, 0.0021))
# Transformations that are left where some are left out, of those asked for.
LEAN_TRANSFORMATIONS: Final = ("1/", "log", "sqrt", "^2")
_LEAN_LOSS: Final = 0.0005
_STEP_LOSS: Final = 0.0087
# Fewer columns are no choice.
_FEWEST_COLUMNS: Final = 30


@dataclass(frozen=True, slots=True)
class Relief:
    """A fit that does less.

    Attributes:
        steps: feature engineering steps.
        transformations: those that are applied.
        select_rows: rows to engineer and select on; 0 for all. The model on the chosen columns has all rows.
        most_columns: new columns that enter selection at most, those that explain most; 0 for all.
        expected_loss: of held-out R2 or accuracy, on average over the data sets it was measured on.
    """

    steps: int
    transformations: tuple[str, ...]
    select_rows: int = 0
    most_columns: int = 0
    expected_loss: float = 0.0

    def applied(
        self, request: AutoFeatRequest, counts: AutoFeatCounts
    ) -> tuple[AutoFeatRequest, AutoFeatCounts]:
        """Return what is left of a request, and its counts."""
        smaller = replace(request, steps=self.steps, transformations=len(self.transformations))
        most = self.most_columns + request.columns if self.most_columns else 0
        return replace(smaller, select_rows=self.select_rows, most_columns=most), _scaled(
            counts, request, smaller
        )

    def left_out(self, request: AutoFeatRequest, transformations: Sequence[str]) -> tuple[str, ...]:
        """Return what of a request is left out, in words."""
        said = []
        if self.select_rows:
            said.append(
                f"columns are engineered and selected on {self.select_rows:,} of {request.rows:,} rows, drawn at random"
            )
        if self.most_columns:
            said.append(f"of the new columns the {self.most_columns:,} that explain most enter selection")
        if missing := [name for name in transformations if name not in self.transformations]:
            said.append(f"the transformations {' '.join(missing)} are not tried")
        if self.steps < request.steps:
            said.append(f"{self.steps} of {request.steps} steps are done")
        return tuple(said)


def lightest_loss(
    request: AutoFeatRequest,
    counts: AutoFeatCounts,
    transformations: Sequence[str],
    fits: Callable[[AutoFeatRequest, AutoFeatCounts], bool],
) -> Relief | None:
    """Return what loses least of all that can be had; ``None`` if nothing can be.

    Args:
        request: the whole fit.
        counts: of its columns.
        transformations: those asked for.
        fits: whether a smaller fit can be had.
    """
    possible = sorted(_reliefs(request, counts, tuple(transformations)), key=lambda each: each.expected_loss)
    return next((each for each in possible if fits(*each.applied(request, counts))), None)


def _reliefs(
    request: AutoFeatRequest, counts: AutoFeatCounts, transformations: tuple[str, ...]
) -> Iterator[Relief]:
    lean = tuple(name for name in transformations if name in LEAN_TRANSFORMATIONS) or transformations
    kinds = [(transformations, 0.0)] + [(lean, _LEAN_LOSS)] * (len(lean) < len(transformations))
    for steps, (names, names_loss) in product(range(request.steps, 0, -1), kinds):
        loss = (request.steps - steps) * _STEP_LOSS + names_loss
        smaller = replace(request, steps=steps, transformations=len(names))
        new = _scaled(counts, request, smaller).kept - request.columns
        for (rows, rows_loss), (most, columns_loss) in product(_row_numbers(request.rows), _numbers_of(new)):
            if loss + rows_loss + columns_loss > 0:
                yield Relief(steps, names, rows, most, loss + rows_loss + columns_loss)


def _row_numbers(rows: int) -> Iterator[tuple[int, float]]:
    """Yield how many rows to select on, 0 for all, and the loss."""
    yield 0, 0.0
    fewer = rows // 2
    while loss := next((loss for least, loss in _ROWS_LOSS if fewer >= least), 0.0):
        yield fewer, loss
        fewer //= 2


def _numbers_of(columns: int) -> Iterator[tuple[int, float]]:
    """Yield how many new columns to take, 0 for all, and the loss."""
    yield 0, 0.0
    for share, loss in _COLUMNS_LOSS:
        if columns * share >= _FEWEST_COLUMNS:
            yield int(columns * share), loss


def _scaled(counts: AutoFeatCounts, request: AutoFeatRequest, smaller: AutoFeatRequest) -> AutoFeatCounts:
    """Return the counts of a smaller request: as much fewer as its bound is."""
    whole, bound = bound_counts(request), bound_counts(smaller)
    kept = max(request.columns, counts.kept * bound.kept // max(1, whole.kept))
    generated = max(kept, counts.generated * bound.generated // max(1, whole.generated))
    return replace(counts, generated=generated, kept=kept)
