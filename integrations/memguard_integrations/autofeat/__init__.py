"""AutoFeat under guard: stock autofeat in workers that are held to a budget and end with the job.

Comes in: a file, or features and a target in memory, and a memory budget. Goes out: engineered columns,
formulas, scores, and a report of what was used. This package does not change what AutoFeat computes and never
takes fewer rows than asked for without saying so; the caller's process never imports autofeat. Read
processor.py for Python, table_run.py for files; stock.py is where AutoFeat itself is called.
"""

from memguard_integrations.autofeat.admission import FitRefused
from memguard_integrations.autofeat.processor import AutoFeatProcessor, NotFittedError
from memguard_integrations.autofeat.records import (
    FitSettings,
    FittedModel,
    Formula,
    MissingPolicy,
    Scores,
    Survey,
    TableResult,
    Task,
)
from memguard_integrations.autofeat.table_run import TableRequest, TableRun, process_table

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
