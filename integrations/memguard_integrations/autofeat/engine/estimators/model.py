"""AutoFeatModel: engineered features with a linear model on top, autofeat's interface, scikit-learn's contract."""

# scikit-learn calls the data X, and autofeat's arguments may be given by position.
# ruff: noqa: N803, N806, PLR0917

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.validation import check_is_fitted

from memguard.units import Size
from memguard_integrations.autofeat.engine.estimators import fitting
from memguard_integrations.autofeat.engine.estimators.formulas import StoredFormulas
from memguard_integrations.autofeat.engine.estimators.inputs import (
    Table,
    as_rows,
    column_names,
    read_blocks,
    read_table,
    read_target,
    remember_text_names,
    require_columns,
    require_fitted_columns,
    require_same_names,
)
from memguard_integrations.autofeat.engine.estimators.programs import Program
from memguard_integrations.autofeat.engine.estimators.recipe import evaluate
from memguard_integrations.autofeat.engine.estimators.surprises import Surprises
from memguard_integrations.autofeat.engine.estimators.tables import good_values, stacked, with_columns
from memguard_integrations.autofeat.engine.estimators.watching import watch_now
from memguard_integrations.autofeat.engine.planning.choosing import choose_within

if TYPE_CHECKING:
    import sympy

__all__ = ["AutoFeatModel"]

# Rows at a time: a column of them, 512 KiB in float64, stays in a processor's cache with what is made of it.
_BLOCK_ROWS: Final = 65_536


class AutoFeatModel(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Multi-step feature engineering, cross-validated selection and a linear model, as autofeat 2.1.3 has them.

    The positional arguments are autofeat's, in its order; the last three are keywords only.

    Args:
        problem_type: "regression" or "classification".
        categorical_cols: names of columns that become columns of 0 and 1, one for each value met in ``fit``. A
            value that ``fit`` has not met, or none at all, gives zeros in all of them.
        feateng_cols: names of the columns to engineer from; None for all.
        units: pint's names of units by column; only what can be added is added. Needs pint.
        feateng_steps: how many steps of transforming and combining, >= 0.
        featsel_runs: how many times features are selected on 85 % of the rows; 0 keeps all.
        max_gb: takes fewer rows to engineer and select with where the matrix could exceed so many 10**9 bytes,
            drawn with numpy's global generator as autofeat does. None takes all rows; ``memory`` is the bound that
            costs no rows.
        transformations: which of ``1/ exp log abs sqrt ^2 ^3 1+ 1- sin cos exp- 2^`` to apply.
        apply_pi_theorem: whether products without dimension are added where there are units.
        always_return_numpy: whether ``transform`` gives an array in place of a frame.
        n_jobs: above 1, how many threads may work at once; 1 and None leave it to the processors that the process can
            have, -1 likewise. No worker processes are started, and the result is the same.
        verbose: above 0, what is done is logged as ``memguard.autofeat`` on the level INFO.
        memory: how much memory engineering and selection may hold, such as "2GiB" or a number of bytes; what does
            not fit is kept in a file. None leaves it to them.
        scratch_dir: the folder of that file; None for the system's own.
        light_mode: "auto" or "never". Where ``memory`` and the disk together have no room for the whole, "auto"
            does less, with a warning :class:`LightMode` that says what and why; "never" raises, with the figures.

    Attributes:
        original_columns_: names of the columns of ``fit``, as texts; ``x000``, ``x001``, ... for an array.
        all_columns_: names of the columns that ``transform`` gives.
        categorical_cols_map_: for each categorical column the names of those in its place.
        feateng_cols_: the columns that were engineered from.
        feature_formulas_: sympy expressions by name, for the new columns and those they were made of.
        feature_functions_: for each new column the columns it takes and its formula as a function of their values.
        new_feat_cols_: the engineered columns that were selected.
        good_cols_: all selected columns, which the model uses.
        prediction_model_: the fitted LassoLarsCV or LogisticRegressionCV.
        classes_: the classes of a classification.
        n_features_in_: how many columns ``fit`` was given. autofeat counts the columns engineered from; the two
            differ with ``categorical_cols`` and ``feateng_cols``, and scikit-learn means this one.
        feature_names_in_: their names, where all of them are texts.
        left_out_: what light mode left out, one sentence each; empty where all was done that was asked for.
    """

    def __init__(
        self,
        problem_type: str = "regression",
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
        self.problem_type = problem_type
        self.categorical_cols = categorical_cols
        self.feateng_cols = feateng_cols
        self.units = units
        self.feateng_steps = feateng_steps
        self.featsel_runs = featsel_runs
        self.max_gb = max_gb
        self.transformations = transformations
        self.apply_pi_theorem = apply_pi_theorem
        self.always_return_numpy = always_return_numpy
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.memory = memory
        self.scratch_dir = scratch_dir
        self.light_mode = light_mode

    def fit(self, X: Any, y: Any) -> Self:
        """Engineer and select features and fit the model.

        Args:
            X: a frame or array of shape (n_rows, n_columns), every value finite.
            y: shape (n_rows,): numbers for a regression, classes for a classification.

        Raises:
            DataError: a column or the target cannot be worked with; it says which and why.
            ConfigError, SizeSyntaxError: an argument means nothing.
            ValueError, TypeError: as scikit-learn words what it refuses.
        """
        self._fit(X, y)
        return self

    def fit_transform(self, X: Any, y: Any) -> Any:
        """Do both and return what ``transform(X)`` would give, without engineering the features twice.

        Raises:
            ValueError, TypeError: as in ``fit``.
        """
        return self._returned(self._fit(X, y))

    def _fit(self, X: Any, y: Any) -> pd.DataFrame:
        fitting.check_arguments(self)
        table, target = self._learn_columns(X, y)
        categorical = tuple(self.categorical_cols or ())
        self._inputs = fitting.fit_inputs(table, categorical)
        self.categorical_cols_map_ = {each.column: each.names for each in self._inputs.encoders}
        self.feateng_cols_ = self._start_columns(table)
        request = fitting.request_of(self, self.feateng_cols_)
        if request.units and self.apply_pi_theorem:
            self._inputs = fitting.with_pi_terms(self._inputs, request.units)
        frame = self._inputs.frame(table)
        chosen, self.left_out_ = choose_within(frame, target, self.feateng_cols_, request)
        self._remember(chosen, list(frame.columns))
        watch_now().on_fit()
        surprises = Surprises()
        engineered = self._engineered(frame, surprises)
        if self.left_out_ and surprises.counts:
            # Chosen on some of the rows; on others there is no such value. Those columns go.
            self._remember(chosen.without(surprises.counts), list(frame.columns))
            surprises = Surprises()
            engineered = self._engineered(frame, surprises)
        surprises.refuse(self.good_cols_, type(self).__name__)
        self._learn_model(frame, engineered, target)
        return with_columns(frame, self.new_feat_cols_, engineered)

    def _learn_columns(self, X: Any, y: Any) -> tuple[Table, NDArray[Any]]:
        X = as_rows(X, allow_nan=False, estimator=self, at_least=2)
        names = column_names(X)
        self._fitted_on_frame = names is not None
        if names is None:
            names = [f"x{position:03}" for position in range(X.shape[1])]
        require_columns(self.categorical_cols, names, "categorical_cols")
        require_columns(self.feateng_cols, names, "feateng_cols")
        table = read_table(
            X, names, categorical=self.categorical_cols or (), allow_nan=False, estimator=self, at_least=2
        )
        target = read_target(y, len(X), problem_type=self.problem_type, estimator=self)
        self.original_columns_, self.n_features_in_ = names, len(names)
        remember_text_names(self, X)
        return table, target

    def _start_columns(self, table: Table) -> list[str]:
        """Return the columns to engineer from, each categorical one as those in its place."""
        if not self.feateng_cols:
            return [*table.numbers.columns, *self._inputs.added]
        encoded = self.categorical_cols_map_
        return [name for column in self.feateng_cols for name in encoded.get(column, [column])]

    def _remember(self, chosen: fitting.Chosen, columns: list[str]) -> None:
        self._features = fitting.make_features(chosen, self.feateng_cols_, columns)
        self._formulas = StoredFormulas(chosen.formulas)
        self.new_feat_cols_ = [feature.name for feature in self._features]
        self.good_cols_ = chosen.good
        self.all_columns_ = [*columns, *self.new_feat_cols_]

    def _learn_model(
        self, frame: pd.DataFrame, engineered: NDArray[np.float64], target: NDArray[Any]
    ) -> None:
        def rows(start: int, stop: int) -> NDArray[np.float64]:
            part = engineered[:, start:stop]
            return good_values(self.good_cols_, frame.iloc[start:stop], self.new_feat_cols_, part)

        model = fitting.fit_predictor(rows, target, self.problem_type)
        for name in ("prediction_model_", "classes_"):
            self.__dict__.pop(name, None)
        if model is not None:
            self.prediction_model_ = model
            if self.problem_type == "classification":
                self.classes_ = model.classes_

    @property
    def feature_formulas_(self) -> dict[str, sympy.Expr]:
        """The formulas of the new columns and of those they were made of, by name; sympy is loaded to give them."""
        return self._formulas.formulas

    @property
    def feature_functions_(self) -> dict[str, tuple[list[str], Program | None, Program | None]]:
        """For each new column the columns it takes and its formula as a function, twice as autofeat has it."""
        return {each.name: (list(each.columns), each.program, each.program) for each in self._features}

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the names of the columns that ``transform`` gives.

        Args:
            input_features: None, or the names of the columns of ``fit``.

        Raises:
            ValueError: other names than those of the fit.
        """
        check_is_fitted(self, ["all_columns_"])
        require_same_names(input_features, self)
        return np.asarray(self.all_columns_, dtype=object)

    def transform(self, X: Any) -> Any:
        """Return the columns, categorical ones as 0 and 1, and after them the selected engineered ones.

        A missing number gives NaN in the columns that are made of it. Where finite values give a value that is not,
        :class:`NonFiniteFeatures` is warned with columns and rows.

        Args:
            X: shape (n_rows, n_columns) with the columns of ``fit``; numbers may be NaN, not infinite. One row is
                enough, and rows are worked on in blocks.

        Returns:
            A frame with the index of X, or an array if ``always_return_numpy``.

        Raises:
            DataError: other columns than those of ``fit``, told by name; values that are no numbers.
            ValueError, TypeError: as scikit-learn words what it refuses.
        """
        check_is_fitted(self, ["all_columns_"])
        X = as_rows(X, allow_nan=True, estimator=self)
        surprises = Surprises()
        engineered = np.empty((len(self._features), len(X)))
        frames: list[pd.DataFrame] = []
        row = 0
        for frame in self._frames(X, allow_nan=True):
            self._engineered(frame, surprises, row, engineered[:, row : row + len(frame)])
            frames.append(frame)
            row += len(frame)
        surprises.warn()
        return self._returned(with_columns(stacked(frames), self.new_feat_cols_, engineered))

    def predict(self, X: Any) -> Any:
        """Return what the model predicts for each row, shape (n_rows,).

        Args:
            X: as for ``transform``, or what ``transform`` gave; every value finite.

        Raises:
            DataError: other columns than those of ``fit``, or engineered values that are not finite.
            ValueError, TypeError: as scikit-learn words what it refuses.
        """
        check_is_fitted(self, ["prediction_model_"])
        return self._asked(self.prediction_model_.predict, X)

    def score(self, X: Any, y: Any) -> float:
        """Return the coefficient of determination of a regression, the accuracy of a classification.

        Args:
            X: as for ``predict``.
            y: what should have been predicted, shape (n_rows,).

        Raises:
            ValueError, TypeError: as in ``predict``.
        """
        X = as_rows(X, allow_nan=False, estimator=self)
        target = read_target(y, len(X), problem_type="", estimator=self)
        measure = r2_score if self.problem_type == "regression" else accuracy_score
        return float(measure(target, self.predict(X)))

    def _asked(self, method: Callable[[Any], Any], X: Any) -> Any:
        """Ask the model block by block, so that the engineered columns of all rows are never held together."""
        answers = [method(values) for values in self._good_values(X)]
        return answers[0] if len(answers) == 1 else np.concatenate(answers)

    def _good_values(self, X: Any) -> Iterator[NDArray[Any]]:
        X = as_rows(X, allow_nan=False, estimator=self)
        names = column_names(X)
        if names == self.all_columns_ and names != self.original_columns_:
            yield from (
                table.numbers[self.good_cols_].to_numpy()
                for table in read_blocks(
                    X, names, categorical=(), allow_nan=False, estimator=self, block_rows=_BLOCK_ROWS
                )
            )
            return
        for frame in self._frames(X, allow_nan=False):
            surprises = Surprises()
            values = self._engineered(frame, surprises)
            surprises.refuse(self.good_cols_, type(self).__name__)
            yield good_values(self.good_cols_, frame, self.new_feat_cols_, values)

    def _frames(self, X: Any, *, allow_nan: bool) -> Iterator[pd.DataFrame]:
        """Yield what the formulas start from, in blocks of rows."""
        require_fitted_columns(X, column_names(X), self, on_frame=self._fitted_on_frame)
        for table in read_blocks(
            X,
            self.original_columns_,
            categorical=tuple(self.categorical_cols_map_),
            allow_nan=allow_nan,
            estimator=self,
            block_rows=_BLOCK_ROWS,
        ):
            yield self._inputs.frame(table)

    def _engineered(
        self,
        frame: pd.DataFrame,
        surprises: Surprises,
        first_row: int = 0,
        out: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """Return the engineered columns of some rows, shape (n_new_columns, n_rows)."""
        values = np.empty((len(self._features), len(frame))) if out is None else out
        surprises.add(evaluate(self._features, frame, values), first_row)
        return values

    def _returned(self, frame: pd.DataFrame) -> Any:
        return frame.to_numpy() if self.always_return_numpy else frame

    def _more_tags(self) -> dict[str, Any]:
        # How scikit-learn before 1.6 asks.
        return {"requires_y": True, "preserves_dtype": ["float64"] if self.always_return_numpy else []}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        if not self.always_return_numpy and tags.transformer_tags is not None:
            # A frame has no type of its own: columns of `fit` keep theirs, engineered ones are float64.
            tags.transformer_tags.preserves_dtype = []
        return tags
