"""What is learned in a fit: encoders, pi terms, which formulas are good, and the linear model on top of them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LassoLarsCV, LogisticRegressionCV

from memguard.errors import ConfigError, DataError
from memguard.units import format_bytes
from memguard_integrations.autofeat.engine.estimators.categories import fit_encoder
from memguard_integrations.autofeat.engine.estimators.formulas import compile_formula
from memguard_integrations.autofeat.engine.estimators.guards import GuardSettings, guard_settings
from memguard_integrations.autofeat.engine.estimators.inputs import Table
from memguard_integrations.autofeat.engine.estimators.recipe import Feature, Inputs
from memguard_integrations.autofeat.engine.estimators.sizes import most_columns, rows_within
from memguard_integrations.autofeat.engine.estimators.symbols import require_different_symbols, symbol_name
from memguard_integrations.autofeat.engine.estimators.units import parse_units, pi_terms
from memguard_integrations.autofeat.engine.estimators.varying import SomeColumns, constant_columns
from memguard_integrations.autofeat.engine.estimators.watching import shares_of, watch_now
from memguard_integrations.autofeat.engine.planning.needs import LEAST_MEMORY_BYTES

if TYPE_CHECKING:
    import sympy

__all__ = [
    "TRANSFORMATIONS",
    "Chosen",
    "FitRequest",
    "check_arguments",
    "choose",
    "fit_inputs",
    "fit_predictor",
    "make_features",
    "request_of",
    "with_pi_terms",
]

_log: Final = logging.getLogger("memguard.autofeat")
# From here on scikit-learn's error curves take more than 64 MiB; below, its own code gives its results to the last bit.
_TALL_ROWS: Final = 40_000
TRANSFORMATIONS: Final = (
    "1/",
    "exp",
    "log",
    "abs",
    "sqrt",
    "^2",
    "^3",
    "1+",
    "1-",
    "sin",
    "cos",
    "exp-",
    "2^",
)


@dataclass(frozen=True, slots=True)
class FitRequest:
    """The arguments of an estimator that decide what is engineered and selected; autofeat's meanings.

    Attributes:
        problem_type: "regression" or "classification"; anything else selects nothing and fits no model.
        units: pint quantities by column, or None.
        guards: memory and scratch folder.
        accepts: asked of each engineered column whether it is to enter selection; None takes all.
    """

    problem_type: str
    steps: int
    runs: int
    max_gb: float | None
    transformations: tuple[str, ...]
    units: Mapping[str, Any] | None
    n_jobs: int
    verbose: int
    guards: GuardSettings
    accepts: Callable[[NDArray[np.float32]], bool] | None = None

    @property
    def selects(self) -> bool:
        """Whether columns are selected at all."""
        return self.runs > 0 and self.problem_type in {"regression", "classification"}


@dataclass(frozen=True, slots=True)
class Chosen:
    """What came out of expansion and selection.

    Attributes:
        good: the columns that the model is to use.
        formulas: by name, those of the start columns and of the good engineered ones.
    """

    good: list[str]
    formulas: dict[str, sympy.Expr]

    def without(self, names: Mapping[str, object]) -> Chosen:
        """Return the same without some columns."""
        formulas = {name: formula for name, formula in self.formulas.items() if name not in names}
        return Chosen([name for name in self.good if name not in names], formulas)


def fit_inputs(table: Table, categorical: Sequence[str]) -> Inputs:
    """Return the encoders for the categorical columns of a table.

    Raises:
        DataError: a column has missing values or cannot be ordered, or a new name is taken.
    """
    inputs = Inputs(encoders=tuple(fit_encoder(column, table.categories[column]) for column in categorical))
    require_new_names(inputs.added, list(table.numbers.columns))
    return inputs


def require_new_names(added: Sequence[str], names: Sequence[str]) -> None:
    """Raise for a column to be added that has the name of another.

    Raises:
        DataError: it names the first.
    """
    taken = set(names)
    for name in added:
        if name in taken:
            raise DataError(
                "is the name of a column and of one to be added",
                subject=repr(name),
                remedy="rename the column",
            )
        taken.add(name)


def check_arguments(estimator: Any) -> None:
    """Raise for an argument of AutoFeatModel that means nothing; nothing is changed.

    Raises:
        ConfigError: it names the argument.
        SizeSyntaxError: ``memory`` is no size.
    """
    memory = guard_settings(estimator).memory_bytes
    if memory is not None and memory < LEAST_MEMORY_BYTES:
        _log.warning(
            "memory=%r is less than a fit works with, which takes up to %s all the same",
            estimator.memory,
            format_bytes(LEAST_MEMORY_BYTES),
        )
    for argument in ("feateng_steps", "featsel_runs"):
        value = getattr(estimator, argument)
        if not isinstance(value, Integral):
            raise ConfigError(
                f"{argument} is no whole number: {value!r}", setting=argument, origin="argument"
            )
    for name in estimator.transformations:
        if name not in TRANSFORMATIONS:
            raise ConfigError(
                f"{name!r} is no transformation: there are {' '.join(TRANSFORMATIONS)}",
                setting="transformations",
                origin="argument",
            )


def request_of(estimator: Any, start: Sequence[str]) -> FitRequest:
    """Return what the arguments of an AutoFeatModel ask for, with the units of the columns to start from."""
    return FitRequest(
        problem_type=estimator.problem_type,
        steps=estimator.feateng_steps,
        runs=estimator.featsel_runs,
        max_gb=estimator.max_gb,
        transformations=tuple(estimator.transformations),
        units=quantities_of(estimator.units, start),
        n_jobs=estimator.n_jobs,
        verbose=estimator.verbose,
        guards=guard_settings(estimator),
    )


def with_pi_terms(inputs: Inputs, quantities: Mapping[str, Any]) -> Inputs:
    """Return the inputs with the products of the pi theorem added."""
    return Inputs(inputs.encoders, pi_terms(quantities))


def quantities_of(units: Mapping[str, str] | None, columns: Sequence[str]) -> dict[str, Any] | None:
    """Return a quantity for each column to start from, or None without units."""
    return parse_units(units, columns) if units else None


def choose(frame: pd.DataFrame, target: NDArray[Any], start: Sequence[str], request: FitRequest) -> Chosen:
    """Engineer features from some columns of a frame and select the good ones.

    Args:
        frame: numeric, every value finite.
        target: shape (n_rows,).
        start: the columns to engineer from.
        request: how.

    Raises:
        DataError: two of the columns would share a symbol; nothing can be selected from.
    """
    require_different_symbols(start)
    frame = frame.reset_index(drop=True)
    frame, target = _sampled(frame, target, len(start), request)
    if request.steps < 1:
        return _choose_without_steps(frame, target, start, request)
    return _choose_engineered(frame, target, start, request)


def _sampled(
    frame: pd.DataFrame, target: NDArray[Any], start: int, request: FitRequest
) -> tuple[pd.DataFrame, NDArray[Any]]:
    """Take fewer rows where ``max_gb`` asks for it, drawn with numpy's global generator as autofeat does."""
    columns = most_columns(start, request.steps, len(request.transformations))
    _tell(request, "up to %d columns from %d rows", columns, len(frame))
    if not request.max_gb or columns <= 0 or rows_within(request.max_gb, columns) >= len(frame):
        return frame, target
    rows = np.random.permutation(len(frame))[: rows_within(request.max_gb, columns)]
    _tell(request, "max_gb=%g: %d rows are taken", request.max_gb, len(rows))
    return frame.iloc[rows].reset_index(drop=True), target[rows]


def _choose_without_steps(
    frame: pd.DataFrame, target: NDArray[Any], start: Sequence[str], request: FitRequest
) -> Chosen:
    from memguard_integrations.autofeat.engine.estimators.formulas import start_symbols  # noqa: PLC0415

    good = list(frame.columns)
    if request.selects:
        from memguard_integrations.autofeat.engine.selection import select_features  # noqa: PLC0415

        constant = constant_columns(frame)
        good = select_features(
            frame.drop(columns=list(constant)),
            target,
            request.runs,
            None,
            request.problem_type,
            request.n_jobs,
            request.verbose,
            memory_bytes=request.guards.memory_bytes,
        )
    return Chosen(good or list(frame.columns), start_symbols(start))


def _choose_engineered(
    frame: pd.DataFrame, target: NDArray[Any], start: Sequence[str], request: FitRequest
) -> Chosen:
    # Only here, for they load numba and sympy, which a loaded model never needs.
    from memguard_integrations.autofeat.engine.expansion import expand  # noqa: PLC0415
    from memguard_integrations.autofeat.engine.selection import select  # noqa: PLC0415
    from memguard_integrations.autofeat.engine.threads import most_threads  # noqa: PLC0415

    constant = constant_columns(frame) if request.selects else set()
    watch = watch_now()
    for_columns, for_selection = shares_of(request.guards.memory_bytes, request.guards.selection_bytes)
    with expand(
        frame,
        list(start),
        dict(request.units) if request.units else None,
        request.steps,
        request.transformations,
        memory_bytes=for_columns,
        scratch_dir=request.guards.scratch_dir,
        threads=most_threads(request.n_jobs),
        accepts=request.accepts,
        on_progress=lambda told: watch.on_expansion(told.step, told.steps, told.columns),
        verbose=request.verbose,
    ) as expansion:
        _tell(request, "%d columns engineered", len(expansion.names) - frame.shape[1])
        good = list(expansion.names)
        if request.selects:
            varying = [place for place, name in enumerate(expansion.names) if name not in constant]
            good = select(
                SomeColumns(expansion.columns, varying),
                [expansion.names[place] for place in varying],
                target,
                runs=request.runs,
                problem_type=request.problem_type,
                n_jobs=request.n_jobs,
                verbose=request.verbose,
                memory_bytes=for_selection,
                on_progress=watch.on_selection,
                on_step=watch.on_step,
            )
        # Where nothing was selected the columns to start from are taken.
        good = [str(name) for name in good] or list(frame.columns)
        kept = [*(name for name in good if name not in frame.columns), *start]
        return Chosen(good, {name: expansion.formulas[name] for name in kept})


def make_features(chosen: Chosen, start: Sequence[str], frame_columns: Sequence[str]) -> list[Feature]:
    """Return the engineered columns among the good ones, each with its program.

    A formula takes each start column whose symbol occurs in its text, as autofeat has it: ``x1`` also occurs in
    ``x10**2``. It matters for rows with NaN only.
    """
    symbols = {name: symbol_name(name, number) for number, name in enumerate(start)}
    known = set(frame_columns)
    return [
        _feature(name, tuple(column for column in start if symbols[column] in name), chosen.formulas)
        for name in chosen.good
        if name not in known
    ]


def _feature(name: str, columns: tuple[str, ...], formulas: Mapping[str, sympy.Expr]) -> Feature:
    if not columns:
        return Feature(name, (), None)
    return Feature(name, columns, compile_formula(formulas[name], [formulas[column] for column in columns]))


def fit_predictor(
    rows: Callable[[int, int], NDArray[np.float64]], target: NDArray[Any], problem_type: str
) -> Any:
    """Return the linear model on the good columns, None for a problem type without one.

    Args:
        rows: gives some rows of the good columns, from the first to before the second, finite.
        target: shape (n_rows,).
        problem_type: as in :class:`FitRequest`.
    """
    if problem_type == "regression":
        if len(target) >= _TALL_ROWS:
            from memguard_integrations.autofeat.engine.selection.tall import fit_tall_lasso  # noqa: PLC0415

            return fit_tall_lasso(rows, target)
        model = LassoLarsCV(cv=5)
    elif problem_type == "classification":
        model = LogisticRegressionCV(cv=5, class_weight="balanced")
    else:
        _log.warning("problem_type %r is not known: no prediction model is fitted", problem_type)
        return None
    with warnings.catch_warnings():
        # Convergence is told by the score; autofeat is silent here as well.
        warnings.simplefilter("ignore")
        model.fit(rows(0, len(target)), target)
    return model


def _tell(request: FitRequest, message: str, *arguments: Any) -> None:
    if request.verbose:
        _log.info(message, *arguments)
