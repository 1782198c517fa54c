"""Names: which columns were meant, and what sympy can call them. Pure text."""

from __future__ import annotations

import difflib
import keyword
import re
from collections.abc import Iterable, Sequence
from typing import Final

from memguard.errors import DataError

__all__ = ["duplicated", "nearest_hint", "require_known", "safe_names"]

# Names that mean something else in a formula or in the function that sympy writes from it.
_TAKEN: Final = frozenset(
    {
        *("exp", "log", "sqrt", "abs", "Abs", "sin", "cos", "E", "I", "pi", "nan", "inf", "zoo", "oo"),
        *("numpy", "math", "range", "sum", "min", "max", "re", "im", "sign"),
    }
)


def duplicated(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names that occur more than once, in order of their second appearance."""
    seen: set[str] = set()
    again: dict[str, None] = {}
    for name in names:
        if name in seen:
            again[name] = None
        seen.add(name)
    return tuple(again)


def nearest_hint(wanted: str, names: Sequence[str]) -> str:
    """Return what to type instead of ``wanted``: the nearest name, or the names there are."""
    lower = {name.lower(): name for name in reversed(names)}
    near = difflib.get_close_matches(wanted.lower(), list(lower), n=1, cutoff=0.6)
    if near:
        return f"did you mean {lower[near[0]]!r}?"
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    return f"its columns are {shown}"


def require_known(wanted: Iterable[str], names: Sequence[str], *, source: str, flag: str) -> None:
    """Raise for the first name that is no column.

    Raises:
        DataError: it names the nearest column.
    """
    for name in wanted:
        if name not in names:
            raise DataError(
                f"has no column {name!r} ({flag})", subject=source, remedy=nearest_hint(name, names)
            )


def safe_names(names: Sequence[str], *, reserved: Iterable[str] = ()) -> dict[str, str]:
    """Return for each name one that sympy and generated code can take.

    AutoFeat cuts everything but letters, digits and underscores from a name, so ``a b`` and ``ab`` would
    share one symbol and a column called ``a+b`` would be mistaken for a formula. Here each name stays unique.

    Args:
        names: different from each other.
        reserved: names that may not be given, the target's for one.
    """
    plain = {name for name in names if _clean(name) == name}
    taken = set(reserved) | plain
    result: dict[str, str] = {}
    for name in names:
        result[name] = name if name in plain and name not in reserved else _free_name(_clean(name), taken)
        taken.add(result[name])
    return result


def _clean(name: str) -> str:
    text = re.sub(r"[^0-9A-Za-z_]+", "_", name).strip("_") or "x"
    unusable = text[0].isdigit() or keyword.iskeyword(text) or text in _TAKEN
    return f"x_{text}" if unusable else text


def _free_name(name: str, taken: set[str]) -> str:
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    return candidate
