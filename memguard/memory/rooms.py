"""How much of the budgets around this code is left, for whoever is about to take memory and can do with less.

Comes in: guarded blocks of this process, each with a way to ask what it has left. Goes out: the smallest of that, and
whose it is. Nobody is stopped here: the guards do that.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from typing import Final

__all__ = ["least_room", "offer_room"]

Free = Callable[[], int]


class _Rooms:
    def __init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        """Forget all, as a forked copy must: its memory is counted nowhere."""
        self.lock = threading.RLock()
        self.tokens = itertools.count()
        self.offered: dict[int, tuple[str, Free]] = {}


_rooms: Final = _Rooms()


def offer_room(name: str, free_bytes: Free) -> Callable[[], None]:
    """Make a budget of this process known; returns a function that takes it away again, once or many times.

    Args:
        name: what messages call it.
        free_bytes: says what is left of it.
    """
    with _rooms.lock:
        token = next(_rooms.tokens)
        _rooms.offered[token] = name, free_bytes

    def withdraw() -> None:
        with _rooms.lock:
            _rooms.offered.pop(token, None)

    return withdraw


def least_room() -> tuple[int, str] | None:
    """Return what is left of the budget that has least left, and its name; ``None`` where there is none."""
    with _rooms.lock:
        offered = tuple(_rooms.offered.values())
    return min(((free_bytes(), name) for name, free_bytes in offered), default=None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_rooms.start_over)
