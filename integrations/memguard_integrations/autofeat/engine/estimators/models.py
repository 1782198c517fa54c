"""The regressor and the classifier: AutoFeatModel with its problem type settled."""

# scikit-learn calls the data X, and autofeat's arguments may be given by position.
# ruff: noqa: N803, PLR0917

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from memguard.units import Size
from memguard_integrations.autofeat.engine.estimators.model import AutoFeatModel

__all__ = ["AutoFeatClassifier", "AutoFeatRegressor"]


class AutoFeatRegressor(RegressorMixin, AutoFeatModel):  # type: ignore[misc]
    """:class:`AutoFeatModel` for a regression: the same arguments but ``problem_type``, the same attributes."""

    def __init__(
        self,
        categorical_cols: list[str] | None = None,
        feateng_cols: list[str] | None = None,
        units: Mapping[str, str] | None = None,
        feateng_steps: int = 2,
        featsel_runs: int = 5,
        max_gb: float | None = None,
        transformations: Sequence[str] = ("1/", "exp", "log", "abs", "sqrt", "^2", "^3"),
        apply_pi_theorem: bool = True,
        always_return_numpy: bool = False,
        n_jobs: int = 1,
        verbose: int = 0,
        *,
        memory: int | str | Size | None = None,
        scratch_dir: str | PathLike[str] | None = None,
        light_mode: str = "auto",
    ) -> None:
        super().__init__(
            "regression",
            categorical_cols,
            feateng_cols,
            units,
            feateng_steps,
            featsel_runs,
            max_gb,
            transformations,
            apply_pi_theorem,
            always_return_numpy,
            n_jobs,
            verbose,
            memory=memory,
            scratch_dir=scratch_dir,
            light_mode=light_mode,
        )


class AutoFeatClassifier(ClassifierMixin, AutoFeatModel):  # type: ignore[misc]
    """:class:`AutoFeatModel` for a classification: the same arguments but ``problem_type``, the same attributes."""

    def __init__(
        self,
        categorical_cols: list[str] | None = None,
        feateng_cols: list[str] | None = None,
        units: Mapping[str, str] | None = None,
        feateng_steps: int = 2,
        featsel_runs: int = 5,
        max_gb: float | None = None,
        transformations: Sequence[str] = ("1/", "exp", "log", "abs", "sqrt", "^2", "^3"),
        apply_pi_theorem: bool = True,
        always_return_numpy: bool = False,
        n_jobs: int = 1,
        verbose: int = 0,
        *,
        memory: int | str | Size | None = None,
        scratch_dir: str | PathLike[str] | None = None,
        light_mode: str = "auto",
    ) -> None:
        super().__init__(
            "classification",
            categorical_cols,
            feateng_cols,
            units,
            feateng_steps,
            featsel_runs,
            max_gb,
            transformations,
            apply_pi_theorem,
            always_return_numpy,
            n_jobs,
            verbose,
            memory=memory,
            scratch_dir=scratch_dir,
            light_mode=light_mode,
        )

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class for each row, shape (n_rows, n_classes), in the order of ``classes_``.

        Args:
            X: as for ``predict``.

        Raises:
            ValueError, TypeError: as in ``predict``.
        """
        check_is_fitted(self, ["prediction_model_"])
        return self._asked(self.prediction_model_.predict_proba, X)
