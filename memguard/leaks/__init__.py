"""leaks: what should be gone and is not, and who holds it.

Comes in: models that a job made, registered weakly. Goes out: `Survivor` records with the shortest chains of
references that keep each alive. It frees nothing, measures no process and never calls the garbage
collector to find its answers. Read registry.py first, then holders.py.
"""

from __future__ import annotations

from memguard.leaks.holders import Holder, HolderKind, SearchLimits, find_holders
from memguard.leaks.registry import ModelRegistry, ModelToken, RegistryStatistics, Survivor, known_bytes

__all__ = [
    "Holder",
    "HolderKind",
    "ModelRegistry",
    "ModelToken",
    "RegistryStatistics",
    "SearchLimits",
    "Survivor",
    "find_holders",
    "known_bytes",
]
