"""What the runs chose, put in autofeat's order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["by_frequency", "kept_columns"]


def by_frequency(chosen: Iterable[Any]) -> list[Any]:
    """Sort names by how often they were chosen; among equals shorter ones first, then those chosen earlier."""
    counts = Counter(chosen)
    return sorted(counts, key=lambda name: counts[name] - 0.000001 * len(str(name)), reverse=True)


def kept_columns(keep: Sequence[object] | None, names: Sequence[object]) -> list[object]:
    """Return those of ``keep`` that are columns, told by the name itself or, if that is one, by its text."""
    present = set(names)
    wanted = [] if keep is None else list(keep)
    as_is = [name for name in wanted if name in present and str(name) not in present]
    return as_is + [str(name) for name in wanted if str(name) in present]
