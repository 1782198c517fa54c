"""Staged release: what one part of a job held and keeps for later is free again before the next part begins."""

from __future__ import annotations

import sys

from memguard.host.allocation import MallocBooks
from memguard.memory import shed_all

__all__ = ["release"]


def release() -> None:
    """Give back what pools hold idle and what malloc keeps of freed blocks: the next part needs blocks of other sizes.

    Without it a part of a job that needs little is measured, and counted by a budget, at the peak of the one before.
    """
    shed_all(sys.maxsize)
    MallocBooks().trim()
