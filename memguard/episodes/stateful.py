"""A store's state: how it is set up and how far it has come, without what is in it.

Comes in: an open store, or a state. Goes out: the other. The content is in the folder, and stays there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from memguard.episodes.namespaces import Namespace, all_namespaces
from memguard.episodes.readable import ReadableStore
from memguard.errors import EpisodeInvalid, StateMismatch
from memguard.memory.state import StateDifference, known_state

__all__ = ["Setup", "StatefulStore", "checked_state", "state_of"]

_SCHEMA: Final = "memguard.episode-store/1"
_NAMES: Final = ("durability", "max_text_bytes", "embedder", "cache", "namespaces")
_SPACE_NAMES: Final = ("dimension", "embedder", "budget_bytes", "last_place")


@dataclass(frozen=True, slots=True)
class Setup:
    """What of an open store's state is not in its tables."""

    durability: str
    max_text_bytes: int
    embedder: str | None
    cache: dict[str, Any]


def state_of(setup: Setup, spaces: list[Namespace]) -> dict[str, Any]:
    """Return the state."""
    return {
        "schema": _SCHEMA,
        "durability": setup.durability,
        "max_text_bytes": setup.max_text_bytes,
        "embedder": setup.embedder,
        "cache": setup.cache,
        "namespaces": {each.name: {name: getattr(each, name) for name in _SPACE_NAMES} for each in spaces},
    }


def checked_state(
    state: Mapping[str, Any], setup: Setup, spaces: list[Namespace], *, strict: bool
) -> tuple[dict[str, Any], StateDifference]:
    """Return what is known of a state, checked against the store that is to take it.

    Args:
        state: what was given.
        setup: of the store.
        spaces: its namespaces.
        strict: refuse other names, another durability or embedder, and namespaces that are not here, have another
            dimension or embedder, or are not as far as they were.

    Raises:
        StateMismatch: it says what does not fit.
        EpisodeInvalid: for values that are none.
    """
    known, difference = known_state(state, _SCHEMA, _NAMES, strict=strict)
    told = known.get("namespaces", {})
    if not isinstance(told, Mapping) or not all(isinstance(each, Mapping) for each in told.values()):
        raise EpisodeInvalid("the state's namespaces are no mapping of mappings")
    most = known.get("max_text_bytes", setup.max_text_bytes)
    if isinstance(most, bool) or not isinstance(most, int) or most < 0:
        raise EpisodeInvalid(f"max_text_bytes is a whole number from 0, not {most!r:.40}")
    if strict:
        wrong = [f"{name} is {known[name]}, here {getattr(setup, name)}" for name in ("durability", "embedder")
                 if known[name] != getattr(setup, name)]  # fmt: skip
        here = {each.name: each for each in spaces}
        wrong += [fault for name, each in told.items() if (fault := _fault(name, each, here.get(name)))]
        if wrong:
            raise StateMismatch(
                f"the state is of another store: {'; '.join(wrong[:5])}; open the folder that it is of, or load it "
                "with strict=False",
                missing=tuple(sorted(set(told) - set(here))),
                unexpected=(),
            )
    return known, difference


def _fault(name: str, told: Mapping[str, Any], here: Namespace | None) -> str:
    if here is None:
        return f"there is no namespace {name!r}"
    lacking = [each for each in _SPACE_NAMES if each not in told]
    if lacking:
        return f"namespace {name!r} lacks {', '.join(lacking)}"
    for each in ("dimension", "embedder"):
        if told[each] not in (None, "", getattr(here, each)):
            return f"namespace {name!r} has {each} {getattr(here, each)!r}, not {told[each]!r}"
    if not isinstance(told["last_place"], int) or told["last_place"] > here.last_place:
        return f"namespace {name!r} is at {here.last_place}, and was at {told['last_place']}"
    return ""


class StatefulStore(ReadableStore):
    """The part of `EpisodeStore` that gives its state away and takes it."""

    def set_namespace(self, name: str, *, budget: Any = None) -> None:
        """Say what a namespace may take; as `EpisodeStore.set_namespace`."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Return how the store is set up and how far its namespaces have come, as JSON has it; no episode is in it."""
        with self._look() as (connection, _):
            return state_of(self._setup, all_namespaces(connection))

    @property
    def _setup(self) -> Setup:
        embedder = None if self.embedder is None else self.embedder.name
        return Setup(str(self._durability), self._most_text_bytes, embedder, self._cache.state_dict())

    def load_state_dict(self, state: Mapping[str, Any], *, strict: bool = True) -> StateDifference:
        """Take the bounds and budgets of a `state_dict`; the folder's content stays as it is.

        Args:
            state: what was given.
            strict: refuse a state of another store: with other names, durability or embedder, or with namespaces that
                are not here, differ, or had come further; else what fits is taken.

        Raises:
            StateMismatch: it says what does not fit; nothing was changed.
            EpisodeInvalid: for values that are none; nothing was changed.
        """
        with self._look() as (connection, _):
            spaces = all_namespaces(connection)
        known, difference = checked_state(state, self._setup, spaces, strict=strict)
        if "cache" in known:
            self._cache.load_state_dict(known["cache"], strict=strict)
        self._most_text_bytes = known.get("max_text_bytes", self._most_text_bytes)
        for each in spaces:
            told = known.get("namespaces", {}).get(each.name, {})
            if told.get("budget_bytes", each.budget_bytes) != each.budget_bytes:
                self.set_namespace(each.name, budget=told["budget_bytes"])
        return difference
