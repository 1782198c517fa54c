"""How much each column weighs in a cross-validated l1 logistic regression of classes on a sample of rows.

The numbers are those of scikit-learn's ``LogisticRegressionCV(cv=5, penalty="l1", solver="saga",
class_weight="balanced")``: the same solver, warm starts and random draws. Its path is walked here, since the
estimator holds the data three times over and its arguments change from release to release: a fold's rows are
gathered straight from the columns, and two folds are walked at once where there is room for both.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model._sag import sag_solver
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.multiclass import check_classification_targets

from memguard.units import format_bytes
from memguard_integrations.autofeat.engine.selection.noise import Noise, PermutedNoise
from memguard_integrations.autofeat.engine.selection.sample import N_FOLDS, Sample
from memguard_integrations.autofeat.engine.selection.standard import Standardised

__all__ = ["ClassificationModels"]

Matrix = NDArray[np.float64]
# scikit-learn's defaults for the inverse strengths of the penalty and for the solver.
STRENGTHS = np.logspace(-4, 4, 10)
MAX_ITER = 100
TOLERANCE = 1e-4
# Columns that are gathered at once, so that turning them into rows takes no second matrix.
GATHERED_ROWS = 2048
LOG = logging.getLogger("memguard.autofeat")
_TOO_LITTLE = (
    "[featsel] %s for the rows of a logistic model are too little: it takes %s. Give more memory, or fewer rows "
    "(max_gb), steps or transformations"
)


@dataclass(frozen=True, slots=True)
class _Classes:
    """Classes of the sample's rows as numbers from 0, and the weight of each class."""

    codes: NDArray[np.intp]
    weights: Matrix

    @property
    def binary(self) -> bool:
        return len(self.weights) == 2


@dataclass(frozen=True, slots=True)
class _Problem:
    """What one path is walked on: rows, their classes, and the largest squared norm of any row of the sample."""

    values: Matrix
    codes: NDArray[np.intp]
    classes: _Classes
    largest_norm: float


class ClassificationModels:
    """The logistic models of one sample of rows.

    Args:
        data: The standardised columns.
        sample: The rows.
        target: The class of every position of the sample.
        memory_bytes: What copies of rows may take; at least one copy of the columns of a model is made.
        on_step: Called between bounded steps.
        threads: How many folds may be walked at once, if there is room for their rows.
    """

    def __init__(
        self,
        data: Standardised,
        sample: Sample,
        target: NDArray[Any],
        memory_bytes: int,
        on_step: Callable[[], None],
        *,
        threads: int = 2,
    ) -> None:
        self.data = data
        self.sample = sample
        self.target = target
        self.memory_bytes = memory_bytes
        self.on_step = on_step
        self.threads = threads
        self.told = False

    def weights(
        self, columns: Sequence[int], noise: Noise | None, random: np.random.RandomState
    ) -> NDArray[np.float64]:
        """Return the size of the largest coefficient of every column, real ones first, then noise.

        Raises:
            ValueError: The target is no class or has only one, or too few rows for five folds.
        """
        try:
            return self._fitted(self.sample, columns, noise, self.target, random)
        except ValueError:
            order = random.permutation(len(self.sample))
            again = None if noise is None else PermutedNoise(noise, order)
            return self._fitted(self.sample.permuted(order), columns, again, self.target[order], random)

    def _fitted(
        self,
        sample: Sample,
        columns: Sequence[int],
        noise: Noise | None,
        target: NDArray[Any],
        random: np.random.RandomState,
    ) -> NDArray[np.float64]:
        rows = partial(_gathered, self.data, sample, columns, noise)
        classes, folds = _classes(target), _folds(target)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            threads = self._threads(len(columns), noise)
            coefs = _cross_validated(rows, classes, folds, random, threads=threads, on_step=self.on_step)
        weights: Matrix = np.abs(coefs).max(axis=0)
        return weights

    def _threads(self, n_columns: int, noise: Noise | None) -> int:
        """Return how many copies of rows fit, but one at least: the solver goes through all of them again and again."""
        size = 8 * len(self.sample) * (n_columns + (0 if noise is None else len(noise)))
        if size > self.memory_bytes and not self.told:
            self.told = True
            LOG.warning(_TOO_LITTLE, format_bytes(self.memory_bytes), format_bytes(size))
        return max(1, min(self.threads, N_FOLDS, self.memory_bytes // max(1, size)))


def _classes(target: NDArray[Any]) -> _Classes:
    check_classification_targets(target)
    labels, codes = np.unique(target, return_inverse=True)
    if len(labels) < 2:
        raise ValueError(
            "This solver needs samples of at least 2 classes in the data, but the data contains only one class: "
            f"{labels[0]!r}"
        )
    counts = np.bincount(codes)
    return _Classes(codes, len(codes) / (len(labels) * counts.astype(np.float64)))


def _folds(target: NDArray[Any]) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    codes = np.unique(target, return_inverse=True)[1]
    return list(StratifiedKFold(N_FOLDS).split(np.zeros(len(codes)), codes))


def _gathered(
    data: Standardised,
    sample: Sample,
    columns: Sequence[int],
    noise: Noise | None,
    positions: NDArray[np.intp],
) -> Matrix:
    """Copy some rows of a design, one row after another: shape (len(positions), columns and noise)."""
    n_noise = 0 if noise is None else len(noise)
    found = np.empty((len(positions), len(columns) + n_noise))
    # In the order of storage, so that each part of a column is read once.
    order = np.argsort(sample.rows[positions], kind="stable")
    for start in range(0, len(order), GATHERED_ROWS):
        some = order[start : start + GATHERED_ROWS]
        found[some, : len(columns)] = data.gather(columns, sample.rows[positions[some]]).T
        if noise is not None:
            found[some, len(columns) :] = noise.at(positions[some]).T
    return found


def _cross_validated(
    rows: Callable[[NDArray[np.intp]], Matrix],
    classes: _Classes,
    folds: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]],
    random: np.random.RandomState,
    *,
    threads: int,
    on_step: Callable[[], None],
) -> Matrix:
    """Choose the strength with the best mean accuracy and fit all rows with it, from the mean of the folds."""
    everything = np.arange(len(classes.codes))
    largest_norm = _largest_norm(rows, len(everything))
    draws = [[_next_draw(random) for _ in STRENGTHS] for _ in folds]

    def walk(number: int) -> tuple[list[Matrix], list[float]]:
        training, held_out = folds[number]
        on_step()
        if len(np.unique(classes.codes[training])) < len(classes.weights):
            raise ValueError("A class has no row in the training part of a fold.")
        problem = _Problem(rows(training), classes.codes[training], classes, largest_norm)
        coefs = _path(problem, STRENGTHS, draws[number], None)
        del problem
        return coefs, _accuracies(rows, held_out, classes, coefs)

    with ThreadPoolExecutor(threads) as pool:
        walked = list(pool.map(walk, range(len(folds))))
    best = int(np.sum([scores for _, scores in walked], axis=0).argmax())
    start = np.mean([coefs[best] for coefs, _ in walked], axis=0)
    problem = _Problem(rows(everything), classes.codes, classes, largest_norm)
    return _path(problem, STRENGTHS[best : best + 1], [_next_draw(random)], start)[0][:, :-1]


def _largest_norm(rows: Callable[[NDArray[np.intp]], Matrix], size: int) -> float:
    parts = (np.arange(start, min(size, start + GATHERED_ROWS)) for start in range(0, size, GATHERED_ROWS))
    return max(float(np.einsum("ij,ij->i", part, part).max()) for part in map(rows, parts))


def _next_draw(random: np.random.RandomState) -> np.random.RandomState:
    """Return a stream at the state of ``random``, which moves on by the one draw that a call of the solver takes.

    So folds may be walked in any order, or at once, with the draws they would have had one after another.
    """
    here = copy.deepcopy(random)
    random.randint(1, np.iinfo(np.int32).max)
    return here


def _path(
    problem: _Problem, strengths: Matrix, draws: Sequence[np.random.RandomState], start: Matrix | None
) -> list[Matrix]:
    """Fit one strength after another, each from the one before; coefficients with the intercept at the end.

    Two classes are one binary problem, shape (1, features + 1); more are one multinomial one.
    """
    classes = problem.classes
    n_outputs = 1 if classes.binary else len(classes.weights)
    labels = problem.codes.astype(np.float64)
    if classes.binary and _sides_are_signs():
        labels = 2 * labels - 1
    first = np.zeros((n_outputs, problem.values.shape[1] + 1)) if start is None else start
    memory: dict[str, Any] = {"coef": np.array(first.T, order="C")}
    found = []
    for strength, draw in zip(strengths, draws, strict=True):
        coefs, _, memory = sag_solver(
            problem.values,
            labels,
            classes.weights[problem.codes],
            "log" if classes.binary else "multinomial",
            0.0,
            1.0 / strength,
            MAX_ITER,
            TOLERANCE,
            0,
            draw,
            False,
            problem.largest_norm,
            memory,
            is_saga=True,
        )
        found.append(np.atleast_2d(coefs).copy())
    return found


@cache
def _sides_are_signs() -> bool:
    """Whether the solver knows two classes as -1 and 1, as up to scikit-learn 1.5, and not as 0 and 1.

    A row labelled 0 then pulls at nothing.
    """
    coefs, _, _ = sag_solver(
        np.ones((1, 1)), np.zeros(1), None, "log", 0.0, 0.0, 1, TOLERANCE, 0, 0, is_saga=True
    )
    return not coefs.any()


def _accuracies(
    rows: Callable[[NDArray[np.intp]], Matrix],
    held_out: NDArray[np.intp],
    classes: _Classes,
    path: Sequence[Matrix],
) -> list[float]:
    values, codes = rows(held_out), classes.codes[held_out]
    return [float(np.mean(_predicted(values, coefs) == codes)) for coefs in path]


def _predicted(values: Matrix, coefs: Matrix) -> NDArray[np.intp]:
    scores = values @ coefs[:, :-1].T + coefs[:, -1]
    found: NDArray[np.intp] = scores.argmax(axis=1) if scores.shape[1] > 1 else scores[:, 0] > 0
    return found
