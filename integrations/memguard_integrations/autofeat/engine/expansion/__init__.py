"""Expansion: new columns from those that are given, by transformations and combinations, as autofeat makes them.

Comes in: a frame of numbers. Goes out: float32 columns with names and formulas, bit for bit autofeat's. This room does
not choose among them. Read expander.py for the steps, then candidates.py, evaluation.py, decisions.py.
"""

from memguard_integrations.autofeat.engine.expansion.expander import (
    DEFAULT_TRANSFORMATIONS,
    Expansion,
    ExpansionProgress,
    expand,
)
from memguard_integrations.autofeat.engine.expansion.frame import as_frame, engineer_features

__all__ = [
    "DEFAULT_TRANSFORMATIONS",
    "Expansion",
    "ExpansionProgress",
    "as_frame",
    "engineer_features",
    "expand",
]
