"""`AutoFeatProcessor`: AutoFeat for data in memory, as a scikit-learn estimator that transforms and predicts.

Each step runs in a guarded worker: this project's engine, or autofeat's own code, whose leaks (about 1.2 MiB of native
memory for each formula it compiles) die with the worker. The caller keeps the fitted model as bytes and its attributes
as plain data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from memguard.errors import DataError, MemguardError
from memguard.manager import MemoryManager
from memguard.report import EstimateSummary, JobReport
from memguard.units import Size
from memguard.worker.recorder import JobProgress
from memguard_integrations.autofeat import jobs
from memguard_integrations.autofeat.admission import admit, as_argument, light_mode, summary_of, tell_light
from memguard_integrations.autofeat.arguments import check_duration, check_size, whole_number
from memguard_integrations.autofeat.engine.planning.told import LightMode
from memguard_integrations.autofeat.estimator import Estimator
from memguard_integrations.autofeat.forecasts import judged_by_past
from memguard_integrations.autofeat.likeness import likeness_of_fit, likeness_of_survey, likeness_of_use
from memguard_integrations.autofeat.own_workers import OwnWorkers
from memguard_integrations.autofeat.records import (
    DEFAULT_TRANSFORMATIONS,
    FitSettings,
    FittedModel,
    Formula,
    Survey,
    Task,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from memguard.estimate import Estimate
    from memguard.estimate.likeness import Likeness

__all__ = ["AutoFeatProcessor", "NotFittedError"]


class NotFittedError(MemguardError, ValueError, AttributeError):
    """Something was asked of a processor that needs a fit first."""


class AutoFeatProcessor(Estimator):
    """Engineers features in guarded workers: fit once, transform in batches.

    Works where scikit-learn takes an estimator: ``clone``, ``Pipeline``, ``cross_val_score``, ``GridSearchCV``. Give
    a ``manager`` there, so that all copies share its workers; each copy without one starts its own.

    Args:
        task: ``regression`` or ``classification``.
        steps: feature engineering steps.
        memory: bound for each step's worker, ``"2GiB"``, ``"50%"``, bytes; ``None`` for the manager's whole
            budget.
        jobs: processes for the selection; no more than ``featsel_runs`` are used.
        featsel_runs: selection runs.
        transformations: AutoFeat's names of them: some of ``exp``, ``exp-``, ``log``, ``abs``, ``sqrt``,
            ``sin``, ``cos``, ``2^``, ``^2``, ``^3``, ``1+``, ``1-``, ``1/``.
        missing: what becomes of missing or infinite values in features: ``skip`` (not fitted on; empty
            results), ``median`` or ``error``.
        seed: of the pilot's row sample.
        engine: ``memguard`` for this project's engine, which spills to disk what does not fit into its memory, or
            ``stock`` for autofeat's own code.
        light_mode: ``auto`` does less where budget and disk have no room for all, with a warning `LightMode` of what is
            left out; ``never`` refuses it.
        timeout: for each step, seconds or ``"5m"``.
        manager: whose budget and workers to use; ``None`` for one of its own, ended by `close`.
        name: for messages and reports.
        on_progress: called with where the current step is, some times a second.

    Fits on every usable row or not at all: what cannot be had in its budget, not even with less tried, is refused
    before it starts. Text and time columns are encoded once, at the fit, so that every batch has the same columns. A
    pickle has the fitted model, but neither the manager nor ``on_progress``. Not thread-safe.

    Raises:
        DataError: for an argument that means nothing.
        SizeSyntaxError, DurationSyntaxError: for an unreadable ``memory`` or ``timeout``.

    Attributes:
        reports: the report of each step's job, in order.
        estimate: of the last fit, or ``None``.
        warnings: what the last fit left out, renamed or assumed, one sentence each.
    """

    def __init__(
        self,
        task: str = "regression",
        *,
        steps: int = 2,
        memory: str | int | Size | None = None,
        jobs: int = 1,
        featsel_runs: int = 5,
        transformations: Sequence[str] = DEFAULT_TRANSFORMATIONS,
        missing: str = "skip",
        seed: int = 0,
        engine: str = "memguard",
        light_mode: str = "auto",
        timeout: str | float | None = None,
        manager: MemoryManager | None = None,
        name: str = "autofeat",
        on_progress: Callable[[JobProgress], None] | None = None,
    ) -> None:
        self.task = task
        self.steps = steps
        self.memory = memory
        self.jobs = jobs
        self.featsel_runs = featsel_runs
        self.transformations = transformations
        self.missing = missing
        self.seed = seed
        self.engine = engine
        self.light_mode = light_mode
        self.timeout = timeout
        self.manager = manager
        self.name = name
        self.on_progress = on_progress
        self._check_parameters(self.get_params())
        self.reports: list[JobReport] = []
        self.estimate: Estimate | None = None
        self.warnings: tuple[str, ...] = ()
        self._workers = OwnWorkers()
        self._fitted: FittedModel | None = None

    @property
    def settings(self) -> FitSettings:
        """What AutoFeat is told, from the parameters as they are now.

        Raises:
            DataError: for one that means nothing.
        """
        return _settings_from(self.get_params())

    def _check_parameters(self, parameters: dict[str, Any]) -> None:
        _settings_from(parameters)
        check_size(parameters["memory"], "memory")
        check_duration(parameters["timeout"], "timeout")

    @property
    def _estimator_type(self) -> str:
        return "classifier" if self.settings.task is Task.CLASSIFICATION else "regressor"

    def __sklearn_is_fitted__(self) -> bool:
        return self._fitted is not None

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803 - the names scikit-learn uses
        """Fit on all usable rows.

        Args:
            X: a pandas frame, or an array of rows x columns.
            y: one value or class a row.

        Raises:
            DataError: for anything in the data that cannot be worked on.
            CapacityExceeded: if it does not fit the budget; the message tells what would.
            MemoryLimitExceeded: if it outgrows its budget all the same.
        """
        self._fitted = None
        settings = self.settings
        alike = likeness_of_survey((X, y), settings, self._manager().budget.limit_bytes)
        survey: Survey = self._run(jobs.survey_frame, X, y, settings, step="survey", likeness=alike)
        budget_bytes = self.reports[-1].budget.limit_bytes
        admission = admit(
            survey,
            settings,
            budget_bytes,
            setting=as_argument,
            capacity_bytes=self._manager().status().capacity_bytes,
            judged=judged_by_past(self._manager().settings, survey, settings, budget_bytes),
        )
        self.estimate = admission.estimate
        tell_light(self._manager(), light_mode(admission, budget_bytes, survey))
        settings = replace(settings, relief=admission.relief, counts=survey.counts)
        fitted: FittedModel = self._run(
            *(jobs.fit_frame, X, y, survey, settings),
            step="fit",
            estimate=summary_of(admission.estimate),
            likeness=likeness_of_fit(survey, settings, admission.fit_rows, budget_bytes),
        )
        if fitted.left_out != admission.left_out:
            tell_light(self._manager(), LightMode.on_the_way(fitted.left_out))
        self.warnings = (*survey.warnings, *fitted.warnings)
        self._fitted = fitted
        return self

    def transform(self, X: Any, batch_rows: int | None = None) -> pd.DataFrame:  # noqa: N803
        """Return the encoded columns and the engineered ones, rows in order, with the index of ``X``.

        Args:
            X: rows with the columns of the fit, in any order; others are ignored.
            batch_rows: rows worked on at once; ``None`` for batches of about 16 MiB. The result does not
                depend on it.

        Raises:
            NotFittedError: before a fit.
            DataError: if a column of the fit is missing or of another kind.
        """
        result: pd.DataFrame = self._use(jobs.transform_frame, X, batch_rows=batch_rows, step="transform")
        return result

    def fit_transform(self, X: Any, y: Any, batch_rows: int | None = None) -> pd.DataFrame:  # noqa: N803
        """`fit`, then `transform` of the same rows.

        Raises:
            MemguardError: as these two.
        """
        return self.fit(X, y).transform(X, batch_rows)

    def predict(self, X: Any, batch_rows: int | None = None) -> np.ndarray[Any, Any]:  # noqa: N803
        """Return AutoFeat's own prediction for each row; NaN where a needed value is missing.

        Raises:
            NotFittedError: before a fit.
            DataError: as `transform`; for classes also if a needed value is missing, since there is no class
                for that.
        """
        return self._use(jobs.predict_frame, X, batch_rows=batch_rows, step="predict")  # type: ignore[no-any-return]

    def predict_proba(self, X: Any, batch_rows: int | None = None) -> np.ndarray[Any, Any]:  # noqa: N803
        """Return rows x classes probabilities, columns in the order of ``classes_``.

        Raises:
            NotFittedError: before a fit.
            DataError: as `transform`, and for a regression.
        """
        if self._model().plan.task is not Task.CLASSIFICATION:
            raise DataError("predicts numbers", subject=self.name, remedy="use predict")
        return self._use(jobs.predict_frame, X, batch_rows=batch_rows, step="predict", proba=True)  # type: ignore[no-any-return]

    def score(self, X: Any, y: Any, batch_rows: int | None = None) -> float:  # noqa: N803
        """Return R2, or the share of hits for classes, over rows whose target and features are known.

        Raises:
            NotFittedError: before a fit.
            DataError: as `transform`, and if no row can be scored.
        """
        value: float | None = self._use(jobs.score_frame, X, y, batch_rows=batch_rows, step="score")
        if value is None:
            raise DataError(
                "no row can be scored", subject="X", remedy="give rows whose target and features are known"
            )
        return value

    @property
    def formulas_(self) -> tuple[Formula, ...]:
        """The final model's columns, strongest effect first."""
        return self._model().formulas

    @property
    def n_rows_(self) -> int:
        """Rows fitted on."""
        return self._model().rows

    @property
    def pickled_model_(self) -> bytes:
        """The model itself, pickled; opening one of autofeat's own imports autofeat."""
        return self._model().pickled

    @property
    def classes_(self) -> np.ndarray[Any, Any]:
        """The classes, in the order of `predict_proba`'s columns; empty for a regression."""
        import numpy as np  # noqa: PLC0415 - who asks for classes has numpy's predictions already

        return np.array(self._model().classes)

    def __getattr__(self, name: str) -> Any:
        # AutoFeat's fitted attributes (feature_formulas_, new_feat_cols_, good_cols_, ...) as plain data.
        if not name.endswith("_") or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        attributes = self._model().attributes
        if name not in attributes:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return attributes[name]

    def close(self) -> None:
        """End the processor's own workers; the fitted model stays, and another step starts them again."""
        self._workers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        # Workers and callbacks belong to this process; the fitted model travels.
        return {**self.__dict__, "manager": None, "_workers": OwnWorkers(), "on_progress": None}

    def __repr__(self) -> str:
        fitted = f"fitted on {self._fitted.rows:,} rows" if self._fitted is not None else "not fitted"
        return f"AutoFeatProcessor({str(self.task)!r}, steps={self.steps}, {fitted})"

    def _manager(self) -> MemoryManager:
        if self.manager is not None:
            return self.manager
        return self._workers.manager(self.memory, self.name, jobs.preload_for(self.settings.engine))

    def _model(self) -> FittedModel:
        # By way of __dict__: __getattr__ would be asked for it while the object is being unpickled.
        fitted: FittedModel | None = self.__dict__.get("_fitted")
        if fitted is None:
            raise NotFittedError(
                f"{self.__dict__.get('name', 'autofeat')} is not fitted yet; call fit(X, y) first"
            )
        return fitted

    def _use(
        self, function: Callable[..., Any], *data: Any, batch_rows: int | None, step: str, **kwargs: Any
    ) -> Any:
        """Run a step of the fitted model."""
        model, rows = self._model(), _rows(batch_rows)
        alike = likeness_of_use(step, data, model, self.settings, rows)
        return self._run(function, *data, model, rows, step=step, likeness=alike, **kwargs)

    def _run(
        self,
        function: Callable[..., Any],
        *args: Any,
        step: str,
        likeness: Likeness,
        estimate: EstimateSummary | None = None,
        **kwargs: Any,
    ) -> Any:
        result = self._manager().run(
            function,
            *args,
            memory=self.memory if self.manager is not None else None,
            name=f"{self.name}-{step}",
            timeout=self.timeout,
            preload=jobs.preload_for(self.settings.engine),
            on_progress=self.on_progress,
            estimate=estimate,
            likeness=likeness,
            check=False,
            **kwargs,
        )
        self.reports.append(result.report)
        result.raise_for_outcome()
        return result.value


def _settings_from(parameters: dict[str, Any]) -> FitSettings:
    return FitSettings(
        task=parameters["task"],
        steps=parameters["steps"],
        selection_runs=whole_number(parameters["featsel_runs"], "featsel_runs", least=1),
        transformations=parameters["transformations"],
        jobs=parameters["jobs"],
        seed=parameters["seed"],
        missing=parameters["missing"],
        engine=parameters["engine"],
        light=parameters["light_mode"],
    )


def _rows(batch_rows: int | None) -> int | None:
    return None if batch_rows is None else whole_number(batch_rows, "batch_rows", least=1)
