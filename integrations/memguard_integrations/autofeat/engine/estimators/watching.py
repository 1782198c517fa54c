"""Who follows a fit from outside, and what of its memory each part may hold.

A guarded job tells how far it is, and obeys where it is asked to wait: it fits inside `watched`, and an estimator's
parameters stay those that scikit-learn knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from memguard_integrations.autofeat.engine.planning.needs import selection_share

__all__ = ["FitWatch", "SelectionWatch", "shares_of", "watch_now", "watched"]


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
        is_short: whether the fit is to go on with less; asked where it is told how far it is.
    """

    on_expansion: Callable[[int, int, int], None] = lambda step, steps, columns: None
    on_selection: SelectionWatch = lambda phase, done, total: None
    on_step: Callable[[], None] = lambda: None
    on_fit: Callable[[], None] = lambda: None
    is_short: Callable[[], bool] = lambda: False


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


def shares_of(memory_bytes: int | None, selection_bytes: int | None = None) -> tuple[int | None, int | None]:
    """Return what of a bound is for columns and what for selection's work, which are held at the same time.

    Args:
        memory_bytes: the bound; ``None`` for none.
        selection_bytes: what selection is to have of it; ``None`` for a share.
    """
    if memory_bytes is None:
        return None, None
    selection = selection_share(memory_bytes) if selection_bytes is None else selection_bytes
    selection = min(selection, memory_bytes)
    return memory_bytes - selection, selection
