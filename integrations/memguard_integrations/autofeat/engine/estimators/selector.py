"""FeatureSelector: autofeat's cross-validated selection of columns as a scikit-learn transformer."""

# scikit-learn calls the data X, and autofeat's arguments may be given by position.
# ruff: noqa: N803, N806

from __future__ import annotations

import logging
from collections.abc import Sequence
from os import PathLike
from typing import Any, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from memguard.units import Size
from memguard_integrations.autofeat.engine.estimators.guards import guard_settings
from memguard_integrations.autofeat.engine.estimators.inputs import (
    as_rows,
    column_names,
    read_table,
    read_target,
    remember_text_names,
    require_fitted_columns,
    require_same_names,
)

__all__ = ["FeatureSelector"]

_log: Final = logging.getLogger("memguard.autofeat")


class FeatureSelector(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Select the columns that a linear model finds better than noise, as autofeat 2.1.3 does.

    The positional arguments are autofeat's, in its order; the last three are keywords only.

    Args:
        problem_type: "regression" or "classification".
        featsel_runs: how many times features are selected on 85 % of the rows.
        keep: names of columns that are kept in any case.
        n_jobs: above 1, how many threads may work at once; 1 and None leave it to the processors that the process can
            have, -1 likewise. No worker processes are started, and the result is the same.
        verbose: above 0, what is done is logged as ``memguard.autofeat`` on the level INFO.
        memory: how much memory the selection may hold, such as "2GiB"; None leaves it to the selection.
        scratch_dir: accepted as by the other estimators; a selection writes no file.
        light_mode: "never" or "auto"; a selection alone leaves nothing out.

    Attributes:
        good_cols_: the selected columns, the best first, after those to keep.
        original_columns_: names of the columns of ``fit``; ``x0``, ``x1``, ... for an array.
        return_df_: whether ``transform`` gives a frame, as it does after a fit on one.
        n_features_in_: how many columns ``fit`` was given.
        feature_names_in_: their names, where all of them are texts.
    """

    def __init__(
        self,
        problem_type: str = "regression",
        featsel_runs: int = 5,
        keep: Sequence[Any] | None = None,
        n_jobs: int = 1,
        verbose: int = 0,
        *,
        memory: int | str | Size | None = None,
        scratch_dir: str | PathLike[str] | None = None,
        light_mode: str = "auto",
    ) -> None:
        self.problem_type = problem_type
        self.featsel_runs = featsel_runs
        self.keep = keep
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.memory = memory
        self.scratch_dir = scratch_dir
        self.light_mode = light_mode

    def fit(self, X: Any, y: Any) -> Self:
        """Select columns.

        Args:
            X: a frame or array of shape (n_rows, n_columns), numeric, every value finite.
            y: shape (n_rows,).

        Raises:
            DataError: a column or the target cannot be worked with; it says which and why.
            ConfigError, SizeSyntaxError: an argument means nothing.
            ValueError, TypeError: as scikit-learn words what it refuses.
        """
        from memguard_integrations.autofeat.engine.selection import select_features  # noqa: PLC0415 - loads numba

        memory_bytes = guard_settings(self).memory_bytes
        X = as_rows(X, allow_nan=False, estimator=self, at_least=2)
        names = column_names(X)
        labels = _labels(X)
        table = read_table(X, names or labels, categorical=(), allow_nan=False, estimator=self, at_least=2)
        target = read_target(y, len(X), problem_type=self.problem_type, estimator=self)
        self.return_df_ = names is not None
        self.original_columns_, self.n_features_in_ = labels, len(labels)
        remember_text_names(self, X)
        frame = table.numbers.set_axis(labels, axis=1).reset_index(drop=True)
        self.good_cols_ = list(
            select_features(
                frame,
                target,
                self.featsel_runs,
                self.keep,
                self.problem_type,
                self.n_jobs,
                self.verbose,
                memory_bytes=memory_bytes,
            )
        )
        return self

    def transform(self, X: Any) -> Any:
        """Return the selected columns; X as it is where none was selected.

        Args:
            X: shape (n_rows, n_columns) with the columns of ``fit``; numbers may be NaN, not infinite.

        Returns:
            A frame with the index of X if ``fit`` was given a frame, otherwise an array.

        Raises:
            DataError: other columns than those of ``fit``, told by name; values that are no numbers.
            ValueError, TypeError: as scikit-learn words what it refuses.
        """
        check_is_fitted(self, ["good_cols_"])
        given = X
        X = as_rows(X, allow_nan=True, estimator=self)
        names = column_names(X)
        require_fitted_columns(X, names, self, on_frame=self.return_df_)
        table = read_table(X, names or self._texts(), categorical=(), allow_nan=True, estimator=self)
        if not self.good_cols_:
            if self.verbose > 0:
                _log.warning("no good columns were found: the data is returned as it is")
            return given
        places = [self.original_columns_.index(name) for name in self.good_cols_]
        chosen = table.numbers.iloc[:, places].set_axis(self.good_cols_, axis=1)
        return chosen if self.return_df_ else chosen.to_numpy()

    def fit_transform(self, X: Any, y: Any) -> Any:
        """Select columns and return them.

        Raises:
            ValueError, TypeError: as in ``fit``.
        """
        return self.fit(X, y).transform(X)

    def get_support(self, indices: bool = False) -> NDArray[Any]:
        """Return which columns of ``fit`` were selected, in its order: a mask, or their positions."""
        check_is_fitted(self, ["good_cols_"])
        mask = np.isin(self._texts(), [str(name) for name in self.good_cols_])
        return np.flatnonzero(mask) if indices else mask

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the names of the columns that ``transform`` gives.

        Args:
            input_features: None, or the names of the columns of ``fit``.

        Raises:
            ValueError: other names than those of the fit.
        """
        check_is_fitted(self, ["good_cols_"])
        require_same_names(input_features, self)
        return np.asarray(self.good_cols_ or self.original_columns_, dtype=object)

    def _texts(self) -> list[str]:
        return [str(name) for name in self.original_columns_]

    def _more_tags(self) -> dict[str, Any]:
        # How scikit-learn before 1.6 asks.
        return {"requires_y": True}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


def _labels(X: Any) -> list[Any]:
    """Return the names of columns as autofeat keeps them: all texts if one of them is, numbers otherwise."""
    if isinstance(X, pd.DataFrame):
        return list(np.array(list(X.columns)).tolist())
    return [f"x{position}" for position in range(X.shape[1])]
