"""Lasso paths and their cross-validation from sums agree with scikit-learn's, which sees the rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LassoLarsCV, lars_path_gram

from memguard_integrations.autofeat.engine.selection.blocks import Design, Rows
from memguard_integrations.autofeat.engine.selection.lars import GramColumns, LassoPath, lasso_path
from memguard_integrations.autofeat.engine.selection.lasso import CrossValidated, cross_validated_lasso
from memguard_integrations.autofeat.engine.selection.lazy_sums import lazy_sums
from memguard_integrations.autofeat.engine.selection.sample import Sample
from memguard_integrations.autofeat.engine.selection.single import single_precision_weights
from memguard_integrations.autofeat.engine.selection.standard import Standardised
from memguard_integrations.autofeat.engine.selection.sums import RealSums, full_sums

Floats = NDArray[np.float64]


class Table:
    """Columns of a matrix of shape (rows, columns)."""

    def __init__(self, matrix: Floats) -> None:
        self.matrix = np.ascontiguousarray(matrix.T.astype(np.float32))

    @property
    def n_rows(self) -> int:
        return self.matrix.shape[1]

    def __len__(self) -> int:
        return len(self.matrix)

    def column(self, index: int) -> NDArray[np.float32]:
        return self.matrix[index]

    def expect(self, indices: Sequence[int], start: int, stop: int) -> None:
        """Do nothing: they are in memory."""

    def let_go_of_pages(self) -> None:
        """Do nothing: they stay in memory."""


def alike_columns(n_rows: int, n_columns: int, alike: float, seed: int = 0) -> tuple[Floats, Floats]:
    """Columns that have much in common, and a target made of some of them."""
    random = np.random.default_rng(seed)
    own = random.standard_normal((n_rows, n_columns))
    matrix = alike * own[:, random.integers(0, max(1, n_columns // 4), n_columns)] + (1 - alike) * own
    return matrix, own @ random.standard_normal(n_columns) + random.standard_normal(n_rows)


def gram_path(matrix: Floats, target: Floats) -> LassoPath:
    gram = matrix.T @ matrix
    columns = GramColumns(lambda feature, likely: gram[feature], gram.diagonal())
    return lasso_path(columns, matrix.T @ target, len(matrix))


def dense(path: LassoPath, n_features: int) -> Floats:
    found = np.zeros((len(path.alphas), n_features))
    found[:, path.support] = path.coefs
    return found


@pytest.mark.parametrize(("n_rows", "n_columns", "alike"), [(60, 5, 0.0), (300, 40, 0.5), (80, 120, 0.3)])
def test_the_path_is_that_of_scikit_learn(n_rows: int, n_columns: int, alike: float) -> None:
    """Knots and coefficients are the same as far as both paths are determined by the data."""
    matrix, target = alike_columns(n_rows, n_columns, alike)
    theirs, _, coefs = lars_path_gram(
        matrix.T @ target, matrix.T @ matrix, n_samples=n_rows, method="lasso", eps=1e-8
    )
    ours = gram_path(matrix, target)
    # With more columns than rows the end of a path is made of rounding errors.
    knots = len(theirs) if n_columns < n_rows else n_rows // 2
    np.testing.assert_allclose(ours.alphas[:knots], theirs[:knots], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(dense(ours, n_columns)[:knots], coefs.T[:knots], rtol=1e-6, atol=1e-9)


def test_a_column_that_adds_nothing_is_treated_as_scikit_learn_treats_it() -> None:
    """A copy of a column is refused by both, and both go on alike."""
    matrix, target = alike_columns(100, 6, 0.2)
    # Small numbers, so that what is left of a copy is surely rounding and below the least pivot.
    matrix = np.column_stack([matrix, matrix[:, 0], matrix[:, 2]]) / 100
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, _, coefs = lars_path_gram(
            matrix.T @ target, matrix.T @ matrix, n_samples=100, method="lasso", eps=1e-8
        )
    ours = gram_path(matrix, target)
    assert len(ours.alphas) == len(theirs)
    np.testing.assert_allclose(dense(ours, 8), coefs.T, rtol=1e-6, atol=1e-9)


def test_a_column_leaves_the_model_where_its_coefficient_would_change_sign() -> None:
    """The path has a knot at which a feature that was in the model is not in it any more."""
    matrix, target = alike_columns(200, 30, 0.9)
    present = dense(gram_path(matrix, target), 30) != 0
    assert (present[:-1] & ~present[1:]).any()


def test_the_last_knot_lies_where_the_path_was_told_to_end() -> None:
    """A smallest alpha between two knots is met, with coefficients between theirs."""
    matrix, target = alike_columns(100, 10, 0.0)
    gram = matrix.T @ matrix
    columns = GramColumns(lambda feature, likely: gram[feature], gram.diagonal())
    whole = gram_path(matrix, target)
    middle = float(whole.alphas[3:5].mean())
    ended = lasso_path(columns, matrix.T @ target, 100, alpha_min=middle)
    assert ended.alphas[-1] == middle
    np.testing.assert_allclose(ended.last(10), dense(whole, 10)[3:5].mean(axis=0), atol=1e-12)


def rows_of(matrix: Floats, target: Floats, block_bytes: int = 1 << 16) -> tuple[Rows, Floats, Floats]:
    """A sample in random order, and its scaled columns and target in that order."""
    order = np.random.default_rng(1).permutation(len(matrix))
    data = Standardised(Table(matrix))
    values = data.gather(range(matrix.shape[1]), order).T
    scaled = (target - target.mean()) / target.std()
    return Rows(data, Sample(order), scaled[order], lambda: None, block_bytes), values, scaled[order]


def from_sums(rows: Rows, n_columns: int) -> CrossValidated:
    columns = np.arange(n_columns)
    return cross_validated_lasso(full_sums(rows, Design(columns), RealSums(rows, columns)))


@pytest.mark.parametrize(("n_rows", "n_columns", "alike"), [(200, 8, 0.3), (400, 60, 0.6), (90, 150, 0.2)])
def test_errors_and_choice_are_those_of_a_cross_validation_on_rows(
    n_rows: int, n_columns: int, alike: float
) -> None:
    """From sums alone come the same error at every alpha, the same alpha and the same coefficients."""
    rows, values, target = rows_of(*alike_columns(n_rows, n_columns, alike))
    theirs = LassoLarsCV(cv=5, eps=1e-8).fit(np.ascontiguousarray(values), target)
    ours = from_sums(rows, n_columns)
    assert ours.alpha == pytest.approx(theirs.alpha_, rel=1e-9)
    np.testing.assert_allclose(ours.coefs, theirs.coef_, rtol=1e-7, atol=1e-10)
    if n_columns < n_rows:
        np.testing.assert_allclose(ours.alphas, theirs.cv_alphas_, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(ours.errors, theirs.mse_path_, rtol=1e-8)


def test_the_first_model_is_scikit_learns_to_the_last_bit() -> None:
    """On float32 columns that are much alike the weights are equal, not only close."""
    rows, values, target = rows_of(*alike_columns(300, 40, 0.99))
    single = np.ascontiguousarray(values.astype(np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = np.abs(LassoLarsCV(cv=5, eps=1e-8).fit(single, target).coef_)
    np.testing.assert_array_equal(single_precision_weights(rows, np.arange(40)), theirs)


def test_the_size_of_blocks_changes_sums_by_rounding_only() -> None:
    """Blocks of some rows and one block of all give the same model."""
    table = alike_columns(700, 12, 0.5)
    small, large = (from_sums(rows_of(*table, size)[0], 12) for size in (1 << 10, 1 << 24))
    np.testing.assert_allclose(small.coefs, large.coefs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("memory_bytes", [0, 1 << 20])
def test_sums_on_demand_give_the_same_model(memory_bytes: int) -> None:
    """A design of which only wanted columns are summed gets the coefficients that all sums give."""
    rows, _, _ = rows_of(*alike_columns(300, 150, 0.5))
    lazy = cross_validated_lasso(lazy_sums(rows, Design(np.arange(150)), memory_bytes))
    np.testing.assert_allclose(lazy.coefs, from_sums(rows, 150).coefs, rtol=1e-7, atol=1e-10)


def test_two_threads_sum_to_the_last_bit_what_one_sums() -> None:
    """Each fold is summed in one order, whoever does it."""
    rows, _, _ = rows_of(*alike_columns(2000, 12, 0.5), 1 << 12)
    one = full_sums(rows, Design(np.arange(12)), RealSums(rows, np.arange(12)))
    two = full_sums(rows, Design(np.arange(12)), RealSums(replace(rows, threads=2), np.arange(12)))
    for fold in range(5):
        np.testing.assert_array_equal(one.square(np.arange(12), fold), two.square(np.arange(12), fold))


def test_too_few_rows_for_the_folds_are_refused() -> None:
    """Four rows cannot be split in five."""
    rows, _, _ = rows_of(*alike_columns(4, 2, 0.0))
    with pytest.raises(ValueError, match="n_splits=5 greater than the number of samples: n_samples=4"):
        from_sums(rows, 2)


def test_a_target_that_nothing_explains_has_no_alpha() -> None:
    """Without any correlation all paths are one knot long, and that is told as scikit-learn tells it."""
    rows, _, _ = rows_of(*alike_columns(50, 3, 0.0))
    still = Rows(rows.data, rows.sample, np.zeros(50), rows.on_step)
    with pytest.raises(ValueError, match="argmin of an empty sequence"):
        from_sums(still, 3)


def test_columns_are_asked_for_only_when_they_come_in() -> None:
    """A path that ends early has asked for the columns in its model and for no other."""
    matrix, target = alike_columns(200, 50, 0.0)
    gram = matrix.T @ matrix
    asked: list[int] = []

    def column(feature: int, likely: Callable[[], Floats]) -> Floats:
        asked.append(feature)
        return np.asarray(gram[feature])

    path = lasso_path(GramColumns(column, gram.diagonal()), matrix.T @ target, 200, max_iter=5)
    assert sorted(asked) == path.support.tolist()
    assert len(asked) == 5
