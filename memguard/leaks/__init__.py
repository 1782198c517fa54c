"""leaks: what should be gone and is not, how much of it there is, and who holds it.

Comes in: ends of iterations of some work, and models that a job made, registered weakly. Goes out: a `LeakReport` with
a verdict and with those who hold what grew; `Survivor` records with the shortest chains of references. It lets go of
nothing that somebody holds; only the detector collects garbage, at ends of blocks. Read detector.py first, then
judge.py and census.py; for models registry.py.
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
