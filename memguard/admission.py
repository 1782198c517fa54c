"""Who of those who wait for room may have it now, and who never will. Pure: records in, an answer out.

Comes in: the line of requests, oldest first, and the accounts they ask of. Goes out: whether a request has its turn,
and which requests wait for each other. Does not wait, lock or grant; `memguard.allocator` does. Begin with `has_turn`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["Account", "Holding", "Request", "are_deadlocked", "has_turn"]


class Holding(Protocol):
    """Room that somebody has."""

    name: str
    size_bytes: int


@dataclass(slots=True, eq=False)
class Account:
    """A budget and what is taken of it; a nested one takes what it gives from its outer one as well."""

    limit_bytes: int
    held: Collection[Holding] = field(default_factory=list)

    @property
    def free_bytes(self) -> int:
        """What is not taken."""
        return self.limit_bytes - sum(each.size_bytes for each in self.held)


@dataclass(slots=True, eq=False)
class Request:
    """A wish for room in several accounts at once.

    Attributes:
        size_bytes: how much, of each.
        accounts: of which.
        held: what the asker has already, and keeps while it waits.
    """

    size_bytes: int
    accounts: frozenset[Account]
    held: frozenset[Holding]

    def __init__(self, size_bytes: int, accounts: Iterable[Account], held: Iterable[Holding] = ()) -> None:
        self.size_bytes, self.accounts, self.held = size_bytes, frozenset(accounts), frozenset(held)

    def fits(self, accounts: Iterable[Account]) -> bool:
        """Whether there is room in these accounts now."""
        return all(each.free_bytes >= self.size_bytes for each in accounts)

    def could_fit(self, kept: frozenset[Holding]) -> bool:
        """Whether there would be room if everybody gave back what he has, but for what is ``kept``."""
        return all(
            each.limit_bytes - sum(held.size_bytes for held in each.held if held in kept) >= self.size_bytes
            for each in self.accounts
        )


def has_turn(request: Request, line: Sequence[Request]) -> bool:
    """Whether a request may be granted now: it fits, and nobody before it has a claim on the same room.

    One who waits for an account of his own has no claim yet on those he shares: he could not use the room. Whoever
    holds room already is kept waiting by nobody: others may be waiting for what he holds.
    """
    if not request.fits(request.accounts):
        return False
    return bool(request.held) or not any(_has_claim(each, request) for each in line[: line.index(request)])


def _has_claim(earlier: Request, later: Request) -> bool:
    shares = not earlier.accounts.isdisjoint(later.accounts)
    return shares and earlier.fits(earlier.accounts - later.accounts)


def are_deadlocked(line: Sequence[Request]) -> tuple[Request, ...]:
    """Return the requests that none of those who hold something will ever make room for, oldest first.

    Banker's reasoning (Dijkstra, EWD 108): whoever could be served if all that do not wait gave back what they have
    will be served one day, and will then give back what he holds; so he is taken out, until nobody can be.
    """
    stuck = tuple(each for each in line if each.held)
    while True:
        kept = frozenset(held for each in stuck for held in each.held)
        remaining = tuple(each for each in stuck if not each.could_fit(kept))
        if len(remaining) == len(stuck):
            return stuck
        stuck = remaining
