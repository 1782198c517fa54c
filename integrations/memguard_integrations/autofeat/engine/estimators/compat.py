"""What differs between the versions of scikit-learn, from 1.5 to the newest, in one place."""

# scikit-learn calls the data X.
# ruff: noqa: N803

from __future__ import annotations

import inspect
from typing import Any, Final

from sklearn.utils.validation import check_array, check_X_y

__all__ = ["checked_array", "checked_rows_and_target"]

# `force_all_finite` became `ensure_all_finite` in 1.6 and went in 1.8.
_FINITE: Final = (
    "ensure_all_finite"
    if "ensure_all_finite" in inspect.signature(check_array).parameters
    else "force_all_finite"
)


def checked_array(X: Any, *, allow_nan: bool, estimator: Any, dtype: Any = None, **options: Any) -> Any:
    """Return X as scikit-learn's ``check_array`` does; ``dtype=None`` keeps the type of its values.

    Raises:
        ValueError, TypeError: as scikit-learn words them.
    """
    finite = "allow-nan" if allow_nan else True
    return check_array(X, dtype=dtype, estimator=estimator, **{_FINITE: finite}, **options)


def checked_rows_and_target(X: Any, y: Any, *, y_numeric: bool, estimator: Any) -> tuple[Any, Any]:
    """Return X and y as scikit-learn's ``check_X_y`` does, X with the type of its values.

    Raises:
        ValueError, TypeError: as scikit-learn words them.
    """
    return check_X_y(X, y, y_numeric=y_numeric, dtype=None, estimator=estimator)  # type: ignore[no-any-return]
