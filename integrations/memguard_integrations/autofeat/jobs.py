"""The functions that run inside guarded workers.

Importing this module loads nothing heavy: the caller names these functions, the worker runs them, and only
there are numpy, pandas, pyarrow and autofeat imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from memguard.errors import MissingExtra
from memguard_integrations.autofeat.records import (
    Engine,
    FitSettings,
    FittedModel,
    Survey,
    TableResult,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "fit_frame",
    "fit_table",
    "predict_frame",
    "preload_for",
    "score_frame",
    "survey_frame",
    "survey_table",
    "transform_frame",
]

_TABLES = ("pyarrow.csv", "pyarrow.parquet", "joblib")
_ENGINES = {
    Engine.STOCK: ("autofeat",),
    Engine.MEMGUARD: ("memguard_integrations.autofeat.engine_fit", "sklearn.pipeline", "pandas"),
}


def preload_for(engine: Engine) -> tuple[str, ...]:
    """Return what the template imports once, so that each worker starts with it.

    Raises:
        MissingExtra: for autofeat's own code where that is not installed.
    """
    if engine is Engine.STOCK and find_spec("autofeat") is None:
        raise MissingExtra(
            "the stock engine needs autofeat: pip install 'automl-memguard[autofeat-stock]' (Python 3.11 or 3.12), or "
            "use the engine memguard",
            extra="autofeat-stock",
        )
    return (*_ENGINES[engine], *_TABLES)


def survey_table(
    path: str,
    target: str,
    columns: Sequence[str] | None,
    settings: FitSettings,
) -> Survey:
    """Read a file once, plan its columns, count its usable rows and run the pilot.

    Raises:
        DataError: for everything in the file that cannot be worked on.
    """
    from memguard_integrations.autofeat.sources import open_source  # noqa: PLC0415 - worker only
    from memguard_integrations.autofeat.surveying import survey_source  # noqa: PLC0415

    return survey_source(open_source(path), target, columns, settings)


def survey_frame(frame: Any, target: Any, settings: FitSettings) -> Survey:
    """`survey_table` for features and target in memory.

    Raises:
        DataError: for everything in them that cannot be worked on.
    """
    from memguard_integrations.autofeat.frames import TARGET, source_of  # noqa: PLC0415
    from memguard_integrations.autofeat.surveying import survey_source  # noqa: PLC0415

    return survey_source(source_of(frame, target), TARGET, None, settings)


def fit_table(
    path: str, output_path: str, survey: Survey, settings: FitSettings, fit_rows: int | None
) -> TableResult:
    """Fit on a sample of a file's usable rows, or all; transform every row, score, and write the output.

    Args:
        path: the file.
        output_path: a Parquet file to write into.
        survey: of that file.
        settings: for AutoFeat.
        fit_rows: rows to fit on; ``None`` for all usable ones.

    Raises:
        DataError: if the file has changed since the survey, or no column varies in the sample.
        OSError: if the output cannot be written.
    """
    from memguard_integrations.autofeat.table_job import run_table  # noqa: PLC0415

    return run_table(path, output_path, survey, settings, fit_rows)


def fit_frame(frame: Any, target: Any, survey: Survey, settings: FitSettings) -> FittedModel:
    """Fit on every usable row in memory.

    Raises:
        DataError: if no column varies.
    """
    from memguard_integrations.autofeat.frames import fit  # noqa: PLC0415

    return fit(frame, target, survey, settings)


def transform_frame(frame: Any, fitted: FittedModel, batch_rows: int | None) -> pd.DataFrame:
    """Transform features in memory, batch by batch; order and index of the rows are kept.

    Raises:
        DataError: if a column is missing or of another kind than in the fit.
    """
    from memguard_integrations.autofeat.frames import transform  # noqa: PLC0415

    return transform(frame, fitted, batch_rows)


def predict_frame(frame: Any, fitted: FittedModel, batch_rows: int | None, *, proba: bool = False) -> Any:
    """Predict a number, a class code or class probabilities for each row.

    Raises:
        DataError: as `transform_frame`.
    """
    from memguard_integrations.autofeat.frames import predict  # noqa: PLC0415

    return predict(frame, fitted, batch_rows, proba=proba)


def score_frame(frame: Any, target: Any, fitted: FittedModel, batch_rows: int | None) -> float | None:
    """Score rows whose target and prediction are known; ``None`` if there are none.

    Raises:
        DataError: as `transform_frame`.
    """
    from memguard_integrations.autofeat.frames import score  # noqa: PLC0415

    return score(frame, target, fitted, batch_rows)
