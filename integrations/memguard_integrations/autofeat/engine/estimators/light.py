"""AutoFeatLight: ratios and products of columns without those that follow another, as a scikit-learn transformer."""

# scikit-learn calls the data X, and autofeat's arguments may be given by position.
# ruff: noqa: N803, N806, PLR0917

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.preprocessing import PowerTransformer, StandardScaler
from sklearn.utils.validation import check_is_fitted

from memguard.units import Size
from memguard_integrations.autofeat.engine.estimators.compat import checked_array
from memguard_integrations.autofeat.engine.estimators.guards import guard_settings
from memguard_integrations.autofeat.engine.estimators.inputs import (
    as_rows,
    column_names,
    remember_text_names,
    require_fitted_columns,
    require_same_names,
)
from memguard_integrations.autofeat.engine.estimators.redundancy import useful_columns

__all__ = ["AutoFeatLight"]

_log: Final = logging.getLogger("memguard.autofeat")
# Without `memory`: up to here two more copies are made, so that every choice is autofeat's own.
_EXACT_BYTES: Final = 512 * 2**20


class AutoFeatLight(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Ratios and products of all pairs of columns, redundant ones left out, as autofeat 2.1.3 has them.

    The positional arguments are autofeat's, in its order; the last three are keywords only.

    Args:
        compute_ratio: whether ratios are made; a division by zero gives 0.
        compute_product: whether products are made.
        scale: whether columns are divided by their standard deviation.
        power_transform: whether columns are made more normal by the transformation of Yeo and Johnson.
        corrthr: from this absolute correlation on a column follows another and is left out.
        corrthr_init: the same for the columns given, before pairs are made.
        verbose: above 0, what is done is logged as ``memguard.autofeat`` on the level INFO.
        memory: how much the candidates may hold, such as "2GiB"; beyond a third of it their correlations are summed
            by blocks. None takes 512 MiB for that third.
        scratch_dir: accepted as by the other estimators; no file is written.
        light_mode: "never" or "auto"; nothing is left out in either.

    Attributes:
        features_: names of the columns that ``transform`` gives.
        original_columns_: names of the numeric columns of ``fit``; ``x1``, ``x2``, ... for an array.
        return_df_: whether ``transform`` gives a frame, as it does after a fit on one.
        good_cols_org_: which of the columns given are not redundant.
        scaler_: the fitted StandardScaler, with ``scale`` or ``power_transform``.
        power_transformer_: the fitted PowerTransformer, with ``power_transform``.
        n_features_in_: how many columns ``fit`` was given, of a frame only the numeric ones.
        feature_names_in_: their names, where all of them are texts.
    """

    def __init__(
        self,
        compute_ratio: bool = True,
        compute_product: bool = True,
        scale: bool = False,
        power_transform: bool = False,
        corrthr: float = 0.995,
        corrthr_init: float = 0.99999,
        verbose: int = 0,
        *,
        memory: int | str | Size | None = None,
        scratch_dir: str | PathLike[str] | None = None,
        light_mode: str = "auto",
    ) -> None:
        self.compute_ratio = compute_ratio
        self.compute_product = compute_product
        self.scale = scale
        self.power_transform = power_transform
        self.corrthr = corrthr
        self.corrthr_init = corrthr_init
        self.verbose = verbose
        self.memory = memory
        self.scratch_dir = scratch_dir
        self.light_mode = light_mode

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find out which columns and which of their ratios and products are worth having.

        Args:
            X: shape (n_rows, n_columns), NaN allowed; of a frame only the numeric columns are taken.
            y: not used.

        Raises:
            ConfigError, SizeSyntaxError: an argument means nothing.
            ValueError, TypeError: as scikit-learn words what it refuses.
        """
        self.fit_transform(X, y)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Do both and return what ``transform(X)`` would give.

        Raises:
            ValueError, TypeError: as in ``fit``.
        """
        exact_bytes = self._exact_bytes()
        X = _numeric(X)
        names, values = self._learn_columns(X)
        self.good_cols_org_ = _kept(values, names, self.corrthr_init, exact_bytes)
        self.features_ = list(self.good_cols_org_)
        if not self.good_cols_org_:
            if self.verbose > 0:
                _log.warning("no good columns were found: the data is returned as it is")
            return X
        values = values[[names.index(name) for name in self.good_cols_org_]]
        if self.compute_ratio or self.compute_product:
            made, made_names = self._made(values)
            everything = np.vstack([values, made])
            all_names = [*self.good_cols_org_, *made_names]
            self.features_ = _kept(everything, all_names, self.corrthr, exact_bytes)
            chosen = set(self.features_)
            values = everything[[place for place, name in enumerate(all_names) if name in chosen]]
        values = self._learn_scale(values.T)
        return self._returned(values, X)

    def _exact_bytes(self) -> int:
        memory_bytes = guard_settings(self).memory_bytes
        return _EXACT_BYTES if memory_bytes is None else memory_bytes // 3

    def _learn_columns(self, X: Any) -> tuple[list[Any], NDArray[np.float64]]:
        column_names(X)
        values = checked_array(X, allow_nan=True, estimator=self, dtype="numeric", ensure_min_samples=2)
        self.return_df_ = isinstance(X, pd.DataFrame)
        names = list(X.columns) if self.return_df_ else [f"x{i}" for i in range(1, values.shape[1] + 1)]
        self.original_columns_, self.n_features_in_ = names, len(names)
        remember_text_names(self, X)
        return names, np.ascontiguousarray(values.T, dtype=np.float64)

    def _made(self, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[str]]:
        """Return every ratio and product of some columns, shape (n_made, n_rows), and their names."""
        pairs = list(_pairs(self.good_cols_org_, self.compute_ratio, self.compute_product))
        made = np.empty((len(pairs), values.shape[1]))
        places = {name: place for place, name in enumerate(self.good_cols_org_)}
        with np.errstate(all="ignore"):
            for number, (_, first, second, ratio) in enumerate(pairs):
                made[number] = _combined(values[places[first]], values[places[second]], ratio)
        return made, [name for name, *_ in pairs]

    def transform(self, X: Any) -> Any:
        """Return the columns that ``fit`` found worth having; X as it is where there were none.

        Args:
            X: shape (n_rows, n_columns) with the columns of ``fit``, in its order; NaN allowed.

        Returns:
            A frame with the index of X if ``fit`` was given a frame, otherwise an array.

        Raises:
            DataError: other columns than those of ``fit``, told by name.
            ValueError, TypeError: as scikit-learn words what it refuses.
        """
        check_is_fitted(self, ["good_cols_org_"])
        given, X = X, as_rows(_numeric(X), allow_nan=True, estimator=self)
        require_fitted_columns(X, column_names(X), self, on_frame=self.return_df_)
        values = checked_array(X, allow_nan=True, estimator=self, dtype="numeric")
        if not self.good_cols_org_:
            if self.verbose > 0:
                _log.warning("no good columns were found: the data is returned as it is")
            return given
        return self._returned(self._scaled(self._selected(values)), X)

    def _selected(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return the columns of ``features_``, made one by one, shape (n_rows, n_features)."""
        places = {name: place for place, name in enumerate(self.original_columns_)}
        made = {
            name: (first, second, ratio)
            for name, first, second, ratio in _pairs(
                self.good_cols_org_, self.compute_ratio, self.compute_product
            )
        }
        selected = np.empty((len(self.features_), len(values)))
        with np.errstate(all="ignore"):
            for number, name in enumerate(self.features_):
                if name in places:
                    selected[number] = values[:, places[name]]
                else:
                    first, second, ratio = made[name]
                    selected[number] = _combined(values[:, places[first]], values[:, places[second]], ratio)
        return selected.T

    def _learn_scale(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if not (self.scale or self.power_transform):
            return values
        self.scaler_ = StandardScaler(with_mean=False)
        values = self.scaler_.fit_transform(values)
        if self.power_transform:
            self.power_transformer_ = PowerTransformer(method="yeo-johnson", standardize=True)
            values = self.power_transformer_.fit_transform(values)
        return values

    def _scaled(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.scale or self.power_transform:
            values = self.scaler_.transform(values)
        return self.power_transformer_.transform(values) if self.power_transform else values

    def _returned(self, values: NDArray[np.float64], X: Any) -> Any:
        if not self.return_df_:
            return values
        return pd.DataFrame(values, columns=self.features_, index=getattr(X, "index", None), copy=False)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the names of the columns that ``transform`` gives.

        Args:
            input_features: None, or the names of the columns of ``fit``.

        Raises:
            ValueError: other names than those of the fit.
        """
        check_is_fitted(self, ["features_"])
        require_same_names(input_features, self)
        return np.asarray(self.features_ or self.original_columns_, dtype=object)

    def _more_tags(self) -> dict[str, Any]:
        # How scikit-learn before 1.6 asks.
        return {"allow_nan": True}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _numeric(X: Any) -> Any:
    return X.select_dtypes(include=np.number) if isinstance(X, pd.DataFrame) else X


def _kept(values: NDArray[np.float64], names: Sequence[Any], threshold: float, exact_bytes: int) -> list[Any]:
    return [names[place] for place in useful_columns(values, threshold, exact_bytes=exact_bytes)]


def _pairs(names: Sequence[Any], ratio: bool, product: bool) -> Iterator[tuple[str, Any, Any, bool]]:
    """Yield name, first column, second column and whether it is their ratio, in autofeat's order."""
    if ratio:
        for below in names:
            yield from ((f"{above} / {below}", above, below, True) for above in names if above != below)
    if product:
        for place, first in enumerate(names):
            yield from ((f"{first} * {second}", first, second, False) for second in names[place + 1 :])


def _combined(first: NDArray[Any], second: NDArray[Any], ratio: bool) -> NDArray[Any]:
    if not ratio:
        return first * second  # type: ignore[no-any-return]
    inverse = 1 / second
    inverse[~np.isfinite(inverse)] = 0.0
    return inverse * first  # type: ignore[no-any-return]
