"""A cache by bytes and by entries: what was longest unused goes first, and no tenant takes another's share.

Comes in: values with their weights, and whose they are. Goes out: the same, while they are there, and how often they
were. The one cache of the project; what is made known with `register_sheddable` is whoever owns it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from memguard.memory.state import StateDifference, known_state, whole_number
from memguard.units import parse_bytes

__all__ = ["ByteCache", "CacheStatistics"]

_K = TypeVar("_K")
_V = TypeVar("_V")
_SCHEMA: Final = "memguard.cache/1"
_BOUNDS: Final = ("most_entries", "most_bytes")
_COUNTS: Final = ("hits", "misses", "evicted")


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """A cache in figures.

    Attributes:
        entries: values that it holds.
        held_bytes: what they weigh.
        most_entries: how many it may hold.
        most_bytes: what they may weigh.
        hits: how often a value was asked for that it had.
        misses: and had not.
        evicted: values that had to make room for others.
        shed_bytes: what was given back because memory was short.
        tenants: the bytes of each tenant that has values in it, by name.
    """

    entries: int = 0
    held_bytes: int = 0
    most_entries: int = 0
    most_bytes: int = 0
    hits: int = 0
    misses: int = 0
    evicted: int = 0
    shed_bytes: int = 0
    tenants: Mapping[str, int] | None = None

    @property
    def hit_rate(self) -> float | None:
        """Hits among all that was asked for, 0 to 1; ``None`` before anything was."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else None


class _Tenant(Generic[_K, _V]):
    """What one tenant has, that longest unused first."""

    __slots__ = ("held_bytes", "values")

    def __init__(self) -> None:
        self.values: OrderedDict[_K, tuple[_V, int]] = OrderedDict()
        self.held_bytes = 0


class ByteCache(Generic[_K, _V]):
    """The cache; thread-safe.

    Of one tenant what was longest unused goes first. Of several the one that has most of the cache gives up what it
    used longest ago: each can have its equal share whatever the others do, and more while they leave some. (Max-min
    fairness over the larger of the two shares, of entries and of bytes, as dominant resource fairness has it: Ghodsi
    et al., NSDI 2011.) An idle tenant keeps what it has within its share.

    Args:
        most_entries: how many values at the most; 0 for none.
        most_bytes: what they may weigh together, as ``"16MiB"`` or bytes; a heavier value is not kept.

    Raises:
        ValueError: for negative bounds.
    """

    def __init__(self, most_entries: int, most_bytes: str | int) -> None:
        self._set_bounds(most_entries, parse_bytes(most_bytes))
        self._lock = threading.RLock()  # a signal handler may shed while this very thread is in it
        self._tenants: dict[str, _Tenant[_K, _V]] = {}
        self._owners: dict[_K, str] = {}
        self._is_paused = False
        self.held_bytes = self.hits = self.misses = self.evicted = self.shed_bytes = 0

    def _set_bounds(self, most_entries: int, most_bytes: int) -> None:
        if most_entries < 0 or most_bytes < 0:
            raise ValueError("a cache has room for no negative number of entries or bytes")
        self._most_entries, self._most_bytes = most_entries, most_bytes

    @property
    def most_bytes(self) -> int:
        """What its values may weigh together."""
        return self._most_bytes if self._most_entries else 0

    def __len__(self) -> int:
        return len(self._owners)

    def get(self, key: _K) -> _V | None:
        """Return a value and make it the one used last; ``None`` if it is not there."""
        with self._lock:
            owner = self._owners.get(key)
            if owner is None:
                self.misses += 1
                return None
            self.hits += 1
            values = self._tenants[owner].values
            values.move_to_end(key)
            return values[key][0]

    def put(self, key: _K, value: _V, weight_bytes: int, tenant: str = "") -> None:
        """Keep a value, in place of those longest unused; nothing is kept while the cache is paused.

        Args:
            key: what it is asked for by.
            value: it must not be changed while it is here.
            weight_bytes: what it takes in memory, 0 or more.
            tenant: whose it is.
        """
        with self._lock:
            self.drop(key)
            if weight_bytes > self._most_bytes or not self._most_entries or self._is_paused:
                return
            mine = self._tenants.setdefault(tenant, _Tenant())
            mine.values[key] = value, weight_bytes
            mine.held_bytes += weight_bytes
            self.held_bytes += weight_bytes
            self._owners[key] = tenant
            self._make_room(tenant)

    def _make_room(self, newest: str) -> None:
        while len(self._owners) > self._most_entries or self.held_bytes > self._most_bytes:
            # Between equals the one who wants more gives way.
            most = max(self._tenants, key=lambda name: (self._share(self._tenants[name]), name == newest))
            self.drop(next(iter(self._tenants[most].values)))
            self.evicted += 1

    def _share(self, tenant: _Tenant[_K, _V]) -> float:
        entries = len(tenant.values) / self._most_entries if self._most_entries else 1.0
        return max(entries, tenant.held_bytes / self._most_bytes if self._most_bytes else 0.0)

    def drop(self, key: _K) -> None:
        """Let go of a value, if it is there."""
        with self._lock:
            name = self._owners.pop(key, None)
            if name is None:
                return
            owner = self._tenants[name]
            weight = owner.values.pop(key)[1]
            owner.held_bytes -= weight
            self.held_bytes -= weight
            if not owner.values:
                del self._tenants[name]

    def clear(self) -> int:
        """Let go of everything; return the bytes that were held."""
        with self._lock:
            held, self.held_bytes = self.held_bytes, 0
            self._tenants.clear()
            self._owners.clear()
            return held

    def shed(self) -> int:
        """Do the same because memory is short, which `statistics` tells."""
        with self._lock:
            held = self.clear()
            self.shed_bytes += held
            return held

    def pause(self, *, paused: bool = True) -> None:
        """Keep nothing more from now on, or, with ``paused=False``, keep again; what is there stays."""
        self._is_paused = paused

    def resize(self, most_entries: int, most_bytes: str | int) -> None:
        """Set other bounds; what is beyond them goes.

        Raises:
            ValueError: for negative ones.
        """
        with self._lock:
            self._set_bounds(most_entries, parse_bytes(most_bytes))
            self._make_room("")

    def statistics(self) -> CacheStatistics:
        """Return its figures."""
        with self._lock:
            return CacheStatistics(
                len(self._owners),
                self.held_bytes,
                self._most_entries,
                self._most_bytes,
                self.hits,
                self.misses,
                self.evicted,
                self.shed_bytes,
                {name: each.held_bytes for name, each in sorted(self._tenants.items())},
            )

    def state_dict(self) -> dict[str, Any]:
        """Return its bounds and counts as JSON has them; what it holds is not in it, for it can be had again."""
        with self._lock:
            bounds = {"most_entries": self._most_entries, "most_bytes": self._most_bytes}
            counts = {"hits": self.hits, "misses": self.misses, "evicted": self.evicted}
            return {"schema": _SCHEMA, **bounds, **counts}

    def load_state_dict(self, state: Mapping[str, Any], *, strict: bool = True) -> StateDifference:
        """Take bounds and counts of a `state_dict`; what is held beyond the bounds goes.

        Args:
            state: what was given.
            strict: refuse a state with other names; else what is known is taken.

        Raises:
            StateMismatch: it says what does not fit; nothing was changed.
            ValueError: for bounds that are none.
        """
        known, difference = known_state(state, _SCHEMA, (*_BOUNDS, *_COUNTS), strict=strict)
        values = {name: whole_number(name, value) for name, value in known.items()}
        with self._lock:
            self.resize(
                values.get("most_entries", self._most_entries), values.get("most_bytes", self._most_bytes)
            )
            for name in _COUNTS:
                setattr(self, name, values.get(name, getattr(self, name)))
        return difference

    def renew_lock(self) -> None:
        """Take a new lock, as a forked copy must."""
        self._lock = threading.RLock()
