"""Who follows a fit from outside, and what of its memory each part may hold.

A guarded job tells how far it is, and obeys where it is asked to wait: it fits inside `watched`, and an estimator's
parameters stay those that scikit-learn knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Protocol

__all__ = ["FitWatch", "SelectionWatch", "shares_of", "watch_now", "watched"]

# What selection works with where there is more: sums of about 1500 columns. Columns gain by all that they get.
_MOST_FOR_SELECTION: Final = 256 * 2**20
_SELECTION_SHARE: Final = 3


class SelectionWatch(Protocol):
    """Told how far a selection is."""

    def __call__(self, phase: str, done: int, total: int) -> None:
        """``phase`` is ``run``, ``split`` (of a run) or ``filter``: so many of so many are done."""


@dataclass(frozen=True, slots=True)
class FitWatch:
    """Called from the thread that fits.

    Attributes:
        on_expansion: with the step, all steps and columns so far.
        on_selection: with ``run``, ``split`` or ``filter``, how many of them are done, and how many there are.
        on_step: between bounded steps; may wait, or raise to end the fit.
        on_fit: when the columns are chosen and the model on them is to be fitted.
    """

    on_expansion: Callable[[int, int, int], None] = lambda step, steps, columns: None
    on_selection: SelectionWatch = lambda phase, done, total: None
    on_step: Callable[[], None] = lambda: None
    on_fit: Callable[[], None] = lambda: None


_watch: ContextVar[FitWatch] = ContextVar("memguard_autofeat_watch", default=FitWatch())  # noqa: B039 - it is frozen


def watch_now() -> FitWatch:
    """Return who follows a fit that begins here."""
    return _watch.get()


@contextmanager
def watched(watch: FitWatch) -> Iterator[None]:
    """Have fits in a ``with`` block followed."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


def shares_of(memory_bytes: int | None) -> tuple[int | None, int | None]:
    """Return what of a bound is for columns and what for selection's work, which are held at the same time."""
    if memory_bytes is None:
        return None, None
    selection = min(_MOST_FOR_SELECTION, memory_bytes // _SELECTION_SHARE)
    return memory_bytes - selection, selection
