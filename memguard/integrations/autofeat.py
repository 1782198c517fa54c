"""The door to AutoFeat under guard: `memguard_integrations.autofeat`, or the extra that it needs."""

from importlib.util import find_spec

from memguard.errors import MissingExtra

# Looked for and not imported: the caller's process never needs autofeat itself, its workers do.
_missing = [name for name in ("autofeat", "pyarrow") if find_spec(name) is None]
if _missing:
    raise MissingExtra(
        f"AutoFeat under guard needs {' and '.join(_missing)}: "
        "pip install 'automl-memguard[autofeat-stock]' (Python 3.11 or 3.12)",
        extra="autofeat-stock",
    )

from memguard_integrations.autofeat import (  # noqa: E402 - after the check that gives a better message
    AutoFeatProcessor,
    FitRefused,
    FitSettings,
    FittedModel,
    Formula,
    MissingPolicy,
    NotFittedError,
    Scores,
    Survey,
    TableRequest,
    TableResult,
    TableRun,
    Task,
    process_table,
)

__all__ = [
    "AutoFeatProcessor",
    "FitRefused",
    "FitSettings",
    "FittedModel",
    "Formula",
    "MissingPolicy",
    "NotFittedError",
    "Scores",
    "Survey",
    "TableRequest",
    "TableResult",
    "TableRun",
    "Task",
    "process_table",
]
