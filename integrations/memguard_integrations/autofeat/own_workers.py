"""A processor's own manager: made when it is needed, ended with the processor at the latest."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from memguard.budget import OuterBound, resolve_budget
from memguard.config import load_settings
from memguard.enclosure import bound_of_process
from memguard.jobs import machine_for
from memguard.manager import MemoryManager, current_manager
from memguard.units import Size

__all__ = ["OwnWorkers"]


class OwnWorkers:
    """The workers of a processor that was given no manager. A pickle has none of them."""

    def __init__(self) -> None:
        self._made_for: object = None
        self._manager: MemoryManager | None = None
        self._end: Callable[[], object] = lambda: None

    def manager(self, memory: str | int | Size | None, name: str, preload: tuple[str, ...]) -> MemoryManager:
        """Return the manager, another one where what it is for has changed.

        Raises:
            CapacityExceeded: for more memory than there is.
        """
        if self._manager is None or self._made_for != (memory, name, preload):
            self.close()
            _check_capacity(memory)
            self._manager, self._made_for = (
                MemoryManager(memory, name=name, preload=preload),
                (memory, name, preload),
            )
            # A clone that scikit-learn made is closed by nobody.
            self._end = weakref.finalize(self, self._manager.close)
        return self._manager

    def close(self) -> None:
        """End it; another one is made when it is needed."""
        self._manager = None
        self._end()

    def __reduce__(self) -> tuple[Any, ...]:
        return OwnWorkers, ()


def _check_capacity(memory: str | int | Size | None) -> None:
    """Refuse more than there is under the name it has here; a manager would call it its budget."""
    around, settings = current_manager(), load_settings()
    outer = (
        bound_of_process()
        if around is None
        else OuterBound(around.budget.limit_bytes, f"the budget of {around.name}")
    )
    if memory is not None:
        resolve_budget(memory, machine_for(settings), default=settings.memory, outer=outer, source="memory")
