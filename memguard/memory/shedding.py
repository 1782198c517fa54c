"""Caches and pools of this process that can give memory back while they are in use, and the asking of them.

Comes in: whoever holds memory that he could do without, once, weakly. Goes out: on request, a result for each that was
asked. It does not decide when memory is short; `emergency_memory_cleanup` and whoever else finds it so calls
`shed_all`.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol
from weakref import ref

from memguard.redact import redact_error

__all__ = ["ShedResult", "Sheddable", "Sheds", "register_sheddable", "shed_all", "shed_each"]


class Sheds(Protocol):
    """Something that can give memory back while it is in use."""

    def shed(self, wanted_bytes: int, /) -> int:
        """Give back up to ``wanted_bytes``, as far as that is possible; return the bytes given back."""


class Sheddable(Sheds, Protocol):
    """A cache or a pool that says what it holds; `register_sheddable` makes it known.

    Called in any thread, one call at a time. A call should not wait: memory is short.
    """

    @property
    def name(self) -> str:
        """What reports call it."""

    @property
    def held_bytes(self) -> int:
        """What it holds now."""


@dataclass(frozen=True, slots=True)
class ShedResult:
    """One that was asked.

    Attributes:
        name: what it calls itself.
        asked_bytes: what was still wanted when its turn came; 0 if it could not even say what it holds.
        given_back_bytes: what it says it gave back.
        error: what it raised or said wrongly, in words; ``""`` if nothing.
        duration_s: seconds it took.
    """

    name: str
    asked_bytes: int
    given_back_bytes: int = 0
    error: str = ""
    duration_s: float = 0.0


@dataclass(slots=True, eq=False)
class _Member:
    """One that is registered.

    Attributes:
        pool: the pool, weakly.
        is_busy: whether somebody is asking it; a pool that asks for memory itself must not be asked again in the
            midst of it.
    """

    pool: ref[Sheddable]
    is_busy: bool = False


class _Members:
    """All that are registered; thread safe."""

    def __init__(self) -> None:
        self._tokens = itertools.count()
        self._members: dict[int, _Member] = {}
        self.start_over()

    def start_over(self) -> None:
        """Take a new lock, as a forked child must: who held it, or was asking, does not exist there."""
        # Reentrant: a signal handler may shed while this very thread registers.
        self._lock = threading.RLock()
        for member in self._members.values():
            member.is_busy = False

    def add(self, pool: Sheddable) -> int:
        with self._lock:
            for token in [token for token, member in self._members.items() if member.pool() is None]:
                del self._members[token]
            token = next(self._tokens)
            self._members[token] = _Member(ref(pool))
            return token

    def remove(self, token: int) -> None:
        with self._lock:
            self._members.pop(token, None)

    def all(self) -> list[_Member]:
        """Return those that live; one that is registered twice once."""
        with self._lock:
            found = {
                id(pool): member for member in self._members.values() if (pool := member.pool()) is not None
            }
        return list(found.values())

    def claim(self, member: _Member) -> bool:
        with self._lock:
            was_busy, member.is_busy = member.is_busy, True
            return not was_busy


def register_sheddable(pool: Sheddable) -> Callable[[], None]:
    """Make a cache or a pool known to whoever finds memory short; weakly, so this keeps nobody alive.

    Returns:
        A function that takes it out again, once or many times.

    Raises:
        TypeError: if it cannot be referenced weakly.
    """
    token = _members.add(pool)
    return lambda: _members.remove(token)


def shed_all(wanted_bytes: int) -> tuple[ShedResult, ...]:
    """Ask those that are registered to give memory back, the largest holder first, until there is enough.

    What one of them does wrong is in its result and does not keep the others from their turn. Who holds nothing, or
    is being asked already, is not asked.

    Args:
        wanted_bytes: how much is wanted of all together; each is asked for what the ones before it left over.

    Returns:
        A result for each that was asked.
    """
    return tuple(shed_each(wanted_bytes))


def shed_each(wanted_bytes: int) -> Iterator[ShedResult]:
    """Do `shed_all` one by one, so that an interrupt loses no result of those before it."""
    holders: list[tuple[int, _Member]] = []
    for member in _members.all():
        told = _held(member)
        if isinstance(told, ShedResult):
            yield told
        elif told > 0:
            holders.append((told, member))
    for _, member in sorted(holders, key=lambda each: each[0], reverse=True):
        if wanted_bytes <= 0:
            return
        if (result := _ask(member, wanted_bytes)) is not None:
            wanted_bytes -= result.given_back_bytes
            yield result


def _held(member: _Member) -> int | ShedResult:
    pool = member.pool()
    if pool is None:
        return 0
    try:
        return int(pool.held_bytes)
    except Exception as error:  # noqa: BLE001 - foreign code; its error is its result
        return ShedResult(_name_of(pool), 0, error=f"cannot say what it holds: {redact_error(error)}")


def _ask(member: _Member, wanted_bytes: int) -> ShedResult | None:
    pool = member.pool()
    if pool is None or not _members.claim(member):
        return None
    started_s = time.monotonic()
    try:
        given_back_bytes, error = _told(pool.shed(wanted_bytes))
    except Exception as failure:  # noqa: BLE001 - foreign code; its error is its result
        given_back_bytes, error = 0, redact_error(failure)
    finally:
        member.is_busy = False
    return ShedResult(_name_of(pool), wanted_bytes, given_back_bytes, error, time.monotonic() - started_s)


def _told(answer: object) -> tuple[int, str]:
    """Return the bytes that a pool says it gave back, and what is wrong with that."""
    if isinstance(answer, bool) or not hasattr(answer, "__index__"):
        return 0, f"said {answer!r:.40} instead of the bytes that it gave back"
    told = int(answer)
    return max(0, told), "" if told >= 0 else f"said that it gave back {told} bytes"


def _name_of(pool: Sheddable) -> str:
    try:
        return str(pool.name)
    except Exception:  # noqa: BLE001 - foreign code; its kind tells who it is as well
        return type(pool).__name__


_members = _Members()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_members.start_over)
