"""Whose adds are written next: tenants take turns, each in the order in which his adds came.

Comes in: what callers want written. Goes out: the next of it. By deficit round robin (Shreedhar and Varghese, SIGCOMM
1995): in each round a tenant may have so many episodes written, and what he did not use is kept for him while he waits.
So a tenant with thousands of adds delays another's one by a round, and not by all of his.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final, Generic, Protocol, TypeVar

__all__ = ["Line", "Wanted"]

# Of each round; a batch that is larger waits for as many rounds as it takes.
_QUANTUM: Final = 256


class Wanted(Protocol):
    """What a caller wants written."""

    @property
    def tenant(self) -> str:
        """Whose it is."""

    @property
    def count(self) -> int:
        """How many episodes it has."""


_W = TypeVar("_W", bound=Wanted)


class Line(Generic[_W]):
    """Those who wait. Not thread-safe."""

    def __init__(self) -> None:
        self._tenants: OrderedDict[str, deque[_W]] = OrderedDict()
        self._credit: dict[str, int] = {}
        self._count = 0

    def __bool__(self) -> bool:
        return bool(self._tenants)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, wanted: object) -> bool:
        return any(each is wanted for line in self._tenants.values() for each in line)

    def append(self, wanted: _W) -> None:
        """Let somebody wait, behind what is his tenant's."""
        self._tenants.setdefault(wanted.tenant, deque()).append(wanted)
        self._count += 1

    def first(self) -> _W:
        """Return whose turn it is; he goes on waiting until he is removed."""
        while True:
            name, line = next(iter(self._tenants.items()))
            credit, cost = self._credit.get(name, 0), line[0].count
            if credit >= cost or len(self._tenants) == 1:
                return line[0]
            self._credit[name] = credit + _QUANTUM
            if self._credit[name] < cost:
                self._tenants.move_to_end(name)

    def take(self, wanted: _W) -> None:
        """Let him go whose turn it was."""
        name = wanted.tenant
        self._credit[name] = max(0, self._credit.get(name, 0) - wanted.count)
        self.remove(wanted)
        line = self._tenants.get(name)
        if line is not None and self._credit[name] < line[0].count:
            self._tenants.move_to_end(name)

    def remove(self, wanted: _W) -> None:
        """Let somebody go who does not wait any more."""
        line = self._tenants[wanted.tenant]
        line.remove(wanted)
        self._count -= 1
        if not line:
            del self._tenants[wanted.tenant]
            self._credit.pop(wanted.tenant, None)
