"""What comes into an estimator: named numeric columns, categorical columns, a target; checked once, told by name."""

# scikit-learn calls the data X.
# ruff: noqa: N803

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets

from memguard.errors import DataError
from memguard_integrations.autofeat.engine.estimators.compat import checked_array, checked_rows_and_target
from memguard_integrations.autofeat.names import duplicated, nearest_hint

__all__ = [
    "Table",
    "as_rows",
    "column_names",
    "read_blocks",
    "read_table",
    "read_target",
    "remember_text_names",
    "require_columns",
    "require_fitted_columns",
    "require_same_names",
    "text_names",
]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of an input.

    Attributes:
        numbers: the columns that are not categorical, numeric, under their names as texts.
        categories: the values of the categorical columns, by name.
    """

    numbers: pd.DataFrame
    categories: dict[str, NDArray[Any]] = field(default_factory=dict)


def column_names(X: Any) -> list[str] | None:
    """Return the names of a frame's columns as texts; None where X has none.

    Raises:
        DataError: two columns have the same name, or the same text as a name.
    """
    if not isinstance(X, pd.DataFrame):
        return None
    names = [str(name) for name in X.columns]
    if again := duplicated(names):
        raise DataError(
            f"occurs more than once among the columns (as text: {list(map(str, X.columns))})",
            subject=f"the name {again[0]!r}",
            remedy="give each column a name of its own",
        )
    return names


def text_names(X: Any) -> NDArray[np.object_] | None:
    """Return what scikit-learn calls ``feature_names_in_``: names that are all texts, or None."""
    if isinstance(X, pd.DataFrame) and all(isinstance(name, str) for name in X.columns):
        return np.asarray(X.columns, dtype=object)
    return None


def remember_text_names(estimator: Any, X: Any) -> None:
    """Set ``feature_names_in_`` after X, or remove what an earlier fit has set."""
    names = text_names(X)
    if names is None:
        estimator.__dict__.pop("feature_names_in_", None)
    else:
        estimator.feature_names_in_ = names


def require_columns(wanted: Sequence[str] | None, names: Sequence[str], argument: str) -> None:
    """Raise for the first of some names that is no column.

    Raises:
        DataError: it names the nearest column.
    """
    for name in wanted or ():
        if name not in names:
            raise DataError(
                f"is no column of X ({argument})", subject=repr(name), remedy=nearest_hint(str(name), names)
            )


def require_same_names(input_features: Any, estimator: Any) -> None:
    """Raise if names are given that are not those of the fit.

    Raises:
        ValueError: in the words that scikit-learn uses.
    """
    if input_features is None:
        return
    given, fitted = list(input_features), getattr(estimator, "feature_names_in_", None)
    if fitted is not None and given != list(fitted):
        raise ValueError("input_features is not equal to feature_names_in_")
    if len(given) != estimator.n_features_in_:
        raise ValueError(
            f"input_features should have length equal to number of features ({estimator.n_features_in_}), "
            f"got {len(given)}"
        )


def as_rows(X: Any, *, allow_nan: bool, estimator: Any, at_least: int = 1) -> Any:
    """Return X as it is if it is a frame, and whatever else scikit-learn takes as an array of two dimensions.

    Raises:
        ValueError, TypeError: as scikit-learn words what it refuses.
    """
    if isinstance(X, pd.DataFrame):
        if not X.shape[1]:  # scikit-learn tells of numpy's inability to join no arrays
            raise ValueError(f"X has no columns (shape={X.shape})")
        return X
    return checked_array(X, allow_nan=allow_nan, estimator=estimator, ensure_min_samples=at_least)


def read_blocks(
    X: Any,
    names: Sequence[str],
    *,
    categorical: Collection[str],
    allow_nan: bool,
    estimator: Any,
    block_rows: int,
) -> Iterator[Table]:
    """Yield X in blocks of at most ``block_rows`` rows, each as :func:`read_table` gives it, in order.

    Raises:
        ValueError, TypeError: as :func:`read_table`, for the block that cannot be read.
    """
    for start in range(0, max(1, len(X)), block_rows):
        part = X[start : start + block_rows] if len(X) > block_rows else X
        yield read_table(part, names, categorical=categorical, allow_nan=allow_nan, estimator=estimator)


def read_table(
    X: Any,
    names: Sequence[str],
    *,
    categorical: Collection[str],
    allow_nan: bool,
    estimator: Any,
    at_least: int = 1,
) -> Table:
    """Return X as named columns.

    Args:
        X: a frame or an array, as :func:`as_rows` gives it.
        names: of its columns, each different.
        categorical: which of them are categorical.
        allow_nan: whether NaN may be among the numbers; infinity never may.
        estimator: for whom, in messages.
        at_least: how many rows there must be.

    Raises:
        DataError: a column that is not categorical has values that are no numbers.
        ValueError, TypeError: as scikit-learn words what it refuses.
    """
    index = X.index if isinstance(X, pd.DataFrame) else None
    plain = [position for position, name in enumerate(names) if name not in categorical]
    mixed = isinstance(X, pd.DataFrame) and len(plain) < len(names)
    _refuse_times(X, names, plain)
    if mixed and not plain:
        numbers = pd.DataFrame(index=index)
    else:
        values = checked_array(
            X.iloc[:, plain] if mixed else X,
            allow_nan=allow_nan,
            estimator=estimator,
            ensure_min_samples=at_least,
        )
        if not mixed and categorical:
            values = values[:, plain]
        kept = [names[position] for position in plain]
        numbers = pd.DataFrame(
            _as_numbers(values, kept, allow_nan, estimator), columns=kept, index=index, copy=False
        )
    return Table(numbers, _categories(X, names, categorical))


def _categories(X: Any, names: Sequence[str], categorical: Collection[str]) -> dict[str, NDArray[Any]]:
    positions = {name: position for position, name in enumerate(names) if name in categorical}
    if not isinstance(X, pd.DataFrame):
        return {name: X[:, position] for name, position in positions.items()}
    # The type that the table has as one array, for categories are named after their values: 2, or 2.0 beside
    # a column of fractions.
    common: Any = X.iloc[:0].to_numpy().dtype if positions else None
    missing: dict[str, Any] = {"na_value": np.nan} if common == np.dtype(object) else {}
    return {
        name: X.iloc[:, position].to_numpy(dtype=common, **missing) for name, position in positions.items()
    }


def _refuse_times(X: Any, names: Sequence[str], positions: Sequence[int]) -> None:
    if not isinstance(X, pd.DataFrame):
        return
    for position in positions:
        if X.dtypes.iloc[position].kind in "mM":
            raise DataError(
                "holds points or spans of time",
                subject=f"the column {names[position]!r}",
                remedy="turn it into numbers first, or leave it out",
            )


def _as_numbers(values: Any, names: Sequence[str], allow_nan: bool, estimator: Any) -> Any:
    if values.dtype.kind in "biuf":
        return values
    converted = np.empty(values.shape, dtype=np.float64, order="F")
    for position, name in enumerate(names):
        converted[:, position] = _column_as_numbers(values[:, position], name)
    return checked_array(converted, allow_nan=allow_nan, estimator=estimator)


def _column_as_numbers(values: NDArray[Any], name: str) -> NDArray[np.float64]:
    if values.dtype.kind in "mM":
        raise DataError(
            "holds points or spans of time",
            subject=f"the column {name!r}",
            remedy="turn it into numbers first",
        )
    try:
        return values.astype(np.float64)
    except ValueError as error:
        raise DataError(
            f"is not numeric ({error})",
            subject=f"the column {name!r}",
            remedy="name it in categorical_cols, or leave it out",
        ) from None
    except TypeError as error:
        raise TypeError(f"the column {name!r} is not numeric: {error}") from None


def read_target(y: Any, rows: int, *, problem_type: str, estimator: Any) -> NDArray[Any]:
    """Return the target as an array of shape (rows,).

    Raises:
        DataError: it is not numeric for a regression, or has a single class for a classification.
        ValueError, TypeError: as scikit-learn words what it refuses.
    """
    numeric = problem_type == "regression"
    # One column in place of X, which was checked already: here it is only as long as X.
    _, target = checked_rows_and_target(np.zeros((rows, 1)), y, y_numeric=numeric, estimator=estimator)
    if numeric and target.dtype.kind not in "biuf":
        return _numeric_target(target)
    if problem_type == "classification":
        check_classification_targets(target)
        _require_two_classes(target)
    return target  # type: ignore[no-any-return]


def _numeric_target(target: NDArray[Any]) -> NDArray[np.float64]:
    try:
        return target.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"is not numeric, which a regression needs ({error})",
            subject="the target",
            remedy="turn it into numbers, or use AutoFeatClassifier for classes",
        ) from None


def _require_two_classes(target: NDArray[Any]) -> None:
    classes = np.unique(target)
    if len(classes) < 2:
        raise DataError(
            f"has only one class, {classes[0]!r}",
            subject="the target",
            remedy="a classifier needs two or more",
        )


def require_fitted_columns(X: Any, names: list[str] | None, estimator: Any, *, on_frame: bool) -> None:
    """Raise if X does not have the columns of the fit, as ``estimator.original_columns_`` has them.

    Names count where both have them; otherwise the number of columns does, and scikit-learn's warning is given.

    Raises:
        DataError: it names the columns that are missing, new or in another place.
        ValueError: another number of columns, in scikit-learn's words.
    """
    fitted, who = list(map(str, estimator.original_columns_)), type(estimator).__name__
    if names is not None and (on_frame or names == fitted):
        _require_names(names, fitted, who)
        return
    if X.shape[1] != len(fitted):
        raise ValueError(
            f"X has {X.shape[1]} features, but {who} is expecting {len(fitted)} features as input."
        )
    named_now, named_then = text_names(X) is not None, hasattr(estimator, "feature_names_in_")
    if named_then and not named_now:
        warnings.warn(
            f"X does not have valid feature names, but {who} was fitted with feature names", stacklevel=3
        )
    elif named_now and not named_then:
        warnings.warn(f"X has feature names, but {who} was fitted without feature names", stacklevel=3)


def _require_names(names: list[str], fitted: list[str], who: str) -> None:
    if names == fitted:
        return
    missing = [name for name in fitted if name not in names]
    new = [name for name in names if name not in fitted]
    parts = [
        *([f"missing: {_listed(missing)}"] if missing else []),
        *([f"not seen in fit: {_listed(new)}"] if new else []),
        *([] if missing or new else [f"another order: fit had {_listed(fitted)}"]),
    ]
    raise DataError(
        f"are not those that {who} was fitted with ({'; '.join(parts)})",
        subject="the columns",
        remedy="give the columns of the fit, in their order",
    )


def _listed(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(map(repr, names[:most])) + (
        f" and {len(names) - most} more" if len(names) > most else ""
    )
