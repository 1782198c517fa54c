"""A weak register of models: which of them outlived their job, how large they are, and who holds them."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Final, NewType
from weakref import WeakSet, ref

from memguard.leaks._naming import is_a, type_name
from memguard.leaks.holders import Holder, SearchLimits, find_holders
from memguard.units import format_bytes

__all__ = ["ModelRegistry", "ModelToken", "RegistryStatistics", "Survivor", "known_bytes"]

ModelToken = NewType("ModelToken", int)

# Shared by every instance or by the whole program, so not a model's own.
_NOT_OWN: Final = (type, ModuleType, FunctionType, BuiltinFunctionType)
# Enough for a forest of some hundred trees or a frame of some hundred columns, in a few milliseconds.
_MOST_PARTS: Final = 5000
_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class made by Python code or by a limited-API extension


@dataclass(frozen=True, slots=True)
class Survivor:
    """A registered model that is alive after its job.

    Attributes:
        name: the name it was registered under, its type's by default.
        type_name: its type.
        job_id: the job it belonged to.
        known_bytes: see `known_bytes`.
        holders: who keeps it alive, nearest first.
    """

    name: str
    type_name: str
    job_id: str
    known_bytes: int
    holders: tuple[Holder, ...]

    def __str__(self) -> str:
        held = "; ".join(map(str, self.holders)) or "nobody that could be found"
        size = format_bytes(self.known_bytes)
        return f"{self.name} ({self.type_name}, {size} known) outlived job {self.job_id!r}; held by {held}"


@dataclass(frozen=True, slots=True)
class RegistryStatistics:
    """What a registry has seen.

    Attributes:
        registered: models registered so far.
        died: models of those that are gone.
        forgotten: models of those that were taken out alive.
        live: models that are registered and alive.
        live_by_type: type name and count of those, most frequent first.
    """

    registered: int
    died: int
    forgotten: int
    live: int
    live_by_type: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """What is known of a registered model; never compared, never hashed, and neither is the model."""

    model: ref[object]
    place: int
    token: ModelToken
    type_name: str
    name: str
    job_id: str


class ModelRegistry:
    """Knows models without holding them: each dies by reference count alone, as if it were not registered.

    Thread safe; models are neither compared nor hashed, so a broken ``__eq__`` or ``__hash__`` does no harm.
    A forked child starts with what its parent had registered. Does not promise to see a model that is held
    by another process, and a size is what can be known cheaply, not all that a model holds.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._entries: dict[ModelToken, _Entry] = {}
        self._tokens: dict[tuple[int, str], ModelToken] = {}
        # Filled at a model's death, in whatever thread and moment that is; no lock is taken there.
        self._died: deque[ModelToken] = deque()
        self._registered = 0
        self._died_count = 0
        self._forgotten = 0
        _registries.add(self)

    def register(self, model: object, *, name: str | None = None, job_id: str = "") -> ModelToken:
        """Note a model, weakly.

        Args:
            model: anything that can be weakly referenced.
            name: what messages call it; by default the name of its type.
            job_id: the job whose end it should not outlive.

        Returns:
            Its token; the same one when it is registered for the same job again.

        Raises:
            TypeError: a model that cannot be weakly referenced; the message says what to do.
        """
        with self._lock:
            self._sweep()
            known = self._tokens.get((id(model), job_id))
            if known is not None and self._entries[known].model() is model:
                return known
            return self._add(model, name or type_name(model), job_id)

    def _add(self, model: object, name: str, job_id: str) -> ModelToken:
        token, died = ModelToken(self._registered), self._died
        try:
            # The callback has the queue and the number only, so nothing is kept alive by it.
            weak = ref(model, lambda _: died.append(token))
        except TypeError as error:
            raise TypeError(_refusal(model)) from error
        self._registered += 1
        self._entries[token] = _Entry(weak, id(model), token, type_name(model), name, job_id)
        self._tokens[id(model), job_id] = token
        return token

    def unregister(self, token: ModelToken) -> bool:
        """Forget a model; tell whether it was still known."""
        with self._lock:
            self._sweep()
            known = self._drop(token)
            self._forgotten += known
            return known

    def survivors(self, job_id: str = "", *, within_s: float = 2.0) -> tuple[Survivor, ...]:
        """Tell which models of a job are alive, and who holds each.

        Call it when the job is over and the caller has dropped its own references. Does not call
        `gc.collect()`: a model that only a reference cycle keeps is a finding, not noise.

        Args:
            job_id: the job, as given to `register`.
            within_s: seconds for all searches together; models that it does not suffice for are listed
                with holders of the kind ``unfinished``.
        """
        give_up_s = time.monotonic() + within_s
        found = (_survivor(entry, give_up_s) for entry in self._live() if entry.job_id == job_id)
        return tuple(each for each in found if each is not None)

    def live_count(self, job_id: str | None = None) -> int:
        """Count the models that are registered and alive, of one job or (``None``) of all."""
        return sum(job_id is None or entry.job_id == job_id for entry in self._live())

    def statistics(self) -> RegistryStatistics:
        """Return what was seen so far."""
        live = self._live()
        by_type = Counter(entry.type_name for entry in live).most_common()
        with self._lock:
            return RegistryStatistics(
                self._registered, self._died_count, self._forgotten, len(live), tuple(by_type)
            )

    def _live(self) -> list[_Entry]:
        with self._lock:
            self._sweep()
            return list(self._entries.values())

    def _sweep(self) -> None:
        while self._died:
            self._died_count += self._drop(self._died.popleft())

    def _drop(self, token: ModelToken) -> bool:
        entry = self._entries.pop(token, None)
        if entry is None:
            return False
        # A new model may have got the place of one that died a moment ago.
        if self._tokens.get((entry.place, entry.job_id)) == token:
            del self._tokens[entry.place, entry.job_id]
        return True

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()


def _survivor(entry: _Entry, give_up_s: float) -> Survivor | None:
    size = _size_of(entry.model)
    holders = find_holders(entry.model, SearchLimits(time_s=max(0.0, give_up_s - time.monotonic())))
    # No holders: it died between the look at the list and the search.
    return Survivor(entry.name, entry.type_name, entry.job_id, size, holders) if holders else None


def _size_of(weak: ref[object]) -> int:
    model = weak()
    return 0 if model is None else known_bytes(model)


def _refusal(model: object) -> str:
    kind = type_name(model)
    if type(model).__flags__ & _HEAP_TYPE:
        return (
            f"{kind} has no weak references, so it cannot be registered; add '__weakref__' to its __slots__"
        )
    return f"{kind} has no weak references, so it cannot be registered; register the object that owns it"


def known_bytes(model: object) -> int:
    """Return the bytes that a model is known to reach, without copying or importing anything.

    Counted are the object and what it refers to (5000 parts at most; no classes, functions and modules):
    a buffer by the array that owns it, so that a small view tells of its large base; anything that has
    ``nbytes`` by that; the rest by its own size. Memory that an extension keeps to itself (the nodes of a
    scikit-learn tree) does not show.
    """
    seen: set[int] = set()
    parts = deque([model])
    total = 0
    while parts and len(seen) < _MOST_PARTS:
        part = _buffer_owner(parts.popleft())
        if id(part) in seen or issubclass(type(part), _NOT_OWN):
            continue
        seen.add(id(part))
        told = _told_bytes(part)
        total += _shallow_bytes(part) if told is None else told
        parts.extend(_referents(part) if told is None else ())
    return total


def _buffer_owner(part: object) -> object:
    """Follow a view (an array's ``base``, a memoryview's ``obj``) to the object that owns the memory."""
    while _has_buffer(part):
        owner = part.obj if is_a(part, memoryview) else getattr(part, "base", None)
        if owner is None or not _has_buffer(owner):
            break
        part = owner
    return part


def _has_buffer(part: object) -> bool:
    try:
        memoryview(part).release()  # type: ignore[arg-type]
    except TypeError:
        return False
    except (ValueError, BufferError):
        pass  # it has one, of a kind that memoryview cannot describe: dates, for instance
    return True


def _told_bytes(part: object) -> int | None:
    """Return what an object says of its size by its buffer or its ``nbytes``; ``None`` where it says nothing."""
    try:
        with memoryview(part) as view:  # type: ignore[arg-type]
            return object.__sizeof__(part) + view.nbytes
    except (TypeError, ValueError, BufferError):
        pass  # no buffer, or one that memoryview cannot describe
    # Asked of the type first: any name at all may be answered by a model's own __getattr__.
    if not any("nbytes" in vars(each) for each in type(part).__mro__):
        return None
    try:
        told = part.nbytes  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - foreign code; a size that cannot be told must not hide a survivor
        return None
    return told if type(told) is int else None


def _shallow_bytes(part: object) -> int:
    # A Python class may compute anything in __sizeof__ (a data frame walks all its strings).
    return object.__sizeof__(part) if type(part).__flags__ & _HEAP_TYPE else sys.getsizeof(part)


def _referents(part: object) -> list[object]:
    kind = type(part)
    sized = kind is list or kind is tuple or kind is dict or kind is set
    return [] if sized and len(part) > _MOST_PARTS else gc.get_referents(part)  # type: ignore[arg-type]


def _renew_locks() -> None:
    # The thread that held a lock at the fork does not exist in the child.
    for registry in list(_registries):
        registry._renew_lock()


_registries: WeakSet[ModelRegistry] = WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
