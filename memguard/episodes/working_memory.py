"""What somebody works with right now, within a budget of tokens and bytes: the rest is in the store, a look away.

Comes in: entries, in order. Goes out: the same, shorter where they had to be: a large one leaves a preview, the oldest
a summary, and each original can be had by its id. Nothing is lost, since what is taken out of here has been written to
the store before. It does not choose what matters: who wants an entry kept marks it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from memguard.episodes.ids import new_ids
from memguard.episodes.records import Episode
from memguard.episodes.store import EpisodeStore
from memguard.episodes.summarising import Summariser, count_tokens, cut, extract
from memguard.errors import CapacityExceeded, EpisodeInvalid, EpisodeMissing
from memguard.memory.state import StateDifference, known_state
from memguard.units import MIB, format_bytes, parse_bytes

__all__ = ["WorkingEntry", "WorkingMemory"]

_SCHEMA: Final = "memguard.working-memory/1"
_KIND: Final = "working-memory"
# Down to this part of the budget entries are summarised, so that the next one does not begin it anew.
_TARGET: Final = 0.75
# Of what is summarised together this part stays.
_SHARE: Final = 0.2
_LEAST_TOKENS: Final = 16


@dataclass(frozen=True, slots=True)
class WorkingEntry:
    """One entry.

    Attributes:
        id: by which its original can be had.
        text: all of it, its preview, or a summary.
        role: who or what said it.
        tags: marks by which it can be found.
        is_pinned: whether it stays as it is, whatever the budget.
        tokens: of the text.
        size_bytes: of the text, as UTF-8.
        is_spilled: whether the text is a preview, and the original in the store.
        summary_of: ids of the originals, if it is a summary.
    """

    id: str
    text: str
    role: str = "note"
    tags: tuple[str, ...] = ()
    is_pinned: bool = False
    tokens: int = 0
    size_bytes: int = 0
    is_spilled: bool = False
    summary_of: tuple[str, ...] = ()


class WorkingMemory:
    """Entries within a budget; thread-safe.

    Args:
        store: where originals go.
        namespace: of the originals.
        budget_tokens: of all entries together.
        budget_bytes: of all entries together, as ``"1MiB"`` or bytes.
        spill_bytes: a larger text is spilled as soon as it comes, and a preview stays.
        preview_tokens: of a preview.
        summarise: makes one text of some, within so many tokens; what it makes too long is cut.
        tokens_of: counts tokens.

    Raises:
        ValueError: for a budget that is none.
    """

    def __init__(
        self,
        store: EpisodeStore,
        *,
        namespace: str = "working-memory",
        budget_tokens: int = 8_000,
        budget_bytes: str | int = MIB,
        spill_bytes: str | int = 16 * 1024,
        preview_tokens: int = 64,
        summarise: Summariser = extract,
        tokens_of: Callable[[str], int] = count_tokens,
    ) -> None:
        self._store, self._namespace = store, namespace
        self._budget_tokens, self._budget_bytes = budget_tokens, parse_bytes(budget_bytes)
        self._spill_bytes, self._preview_tokens = parse_bytes(spill_bytes), preview_tokens
        if min(budget_tokens, self._budget_bytes, self._spill_bytes, preview_tokens) < 1:
            raise ValueError("a working memory has room for one token and one byte at least")
        self._summarise, self._tokens_of = summarise, tokens_of
        self._lock = threading.RLock()
        self._entries: dict[str, WorkingEntry] = {}

    def add(self, text: str, *, role: str = "note", tags: Iterable[str] = (), pinned: bool = False) -> str:
        """Add an entry behind the others and return its id; older ones are summarised if there is no room else.

        Raises:
            CapacityExceeded: if what is pinned leaves no room; nothing was changed.
            EpisodeStoreError: if what must go cannot be written to the store; nothing was changed.
        """
        with self._lock:
            entry = self._measured(WorkingEntry(new_ids(1)[0], text, role, tuple(tags), pinned))
            originals = list[WorkingEntry]()
            if entry.size_bytes > self._spill_bytes or not self._fits([entry]):
                originals.append(entry)
                preview = cut(text, min(self._preview_tokens, self._budget_tokens), self._tokens_of)
                entry = self._measured(replace(entry, text=preview, is_spilled=True))
            entries = self._made_to_fit([*self._entries.values(), entry], originals, newest=entry.id)
            self._replace(entries, originals)
            return entry.id

    def _measured(self, entry: WorkingEntry) -> WorkingEntry:
        return replace(entry, tokens=self._tokens_of(entry.text), size_bytes=len(entry.text.encode()))

    def _fits(self, entries: Iterable[WorkingEntry], part: float = 1.0) -> bool:
        held = list(entries)
        tokens, size = sum(each.tokens for each in held), sum(each.size_bytes for each in held)
        return tokens <= part * self._budget_tokens and size <= part * self._budget_bytes

    def _made_to_fit(
        self,
        entries: list[WorkingEntry],
        originals: list[WorkingEntry],
        *,
        newest: str = "",
        part: float = 1.0,
    ) -> list[WorkingEntry]:
        """Return entries of which the oldest are summarised where they do not fit; fills ``originals``."""
        if self._fits(entries, part):
            return entries
        free = [each for each in entries if not each.is_pinned and each.id != newest]
        chosen, rest = list[WorkingEntry](), list(entries)
        for each in free:
            chosen.append(each)
            rest.remove(each)
            if len(chosen) > 1 and self._fits(rest, _TARGET * part):
                break
        summary = self._summary(chosen, rest) if chosen else None
        at = entries.index(chosen[0]) if chosen else 0
        made = [*rest[:at], *([summary] if summary is not None else []), *rest[at:]]
        if not self._fits(made):
            raise self._refused(made)
        originals += [each for each in chosen if not each.is_spilled and not each.summary_of]
        return made

    def _summary(self, chosen: list[WorkingEntry], rest: list[WorkingEntry]) -> WorkingEntry | None:
        tokens_left = self._budget_tokens - sum(each.tokens for each in rest)
        bytes_left = self._budget_bytes - sum(each.size_bytes for each in rest)
        wanted = max(_LEAST_TOKENS, int(_SHARE * sum(each.tokens for each in chosen)))
        # A token of any script takes four bytes at the most, and the ellipsis three.
        most = min(wanted, tokens_left, bytes_left // 4 - 1)
        if most < 1:
            return None
        text = cut(self._summarise([each.text for each in chosen], most), most, self._tokens_of)
        while len(text.encode()) > bytes_left:
            text = text[: len(text) // 2]
        of = tuple(id_ for each in chosen for id_ in (each.summary_of or (each.id,)))
        tags = tuple(sorted({tag for each in chosen for tag in each.tags}))
        return self._measured(WorkingEntry(new_ids(1)[0], text, "summary", tags, summary_of=of))

    def _refused(self, entries: list[WorkingEntry]) -> CapacityExceeded:
        tokens, size = sum(each.tokens for each in entries), sum(each.size_bytes for each in entries)
        return CapacityExceeded(
            f"what is pinned and the new entry take {tokens} tokens and {format_bytes(size)}, and there are "
            f"{self._budget_tokens} tokens and {format_bytes(self._budget_bytes)}; unpin something, or give it more",
            requested_bytes=size,
            capacity_bytes=self._budget_bytes,
            limited_by="working memory",
        )

    def _replace(self, entries: list[WorkingEntry], originals: list[WorkingEntry]) -> None:
        """Write originals to the store, and only then let go of them."""
        self._store.add_episodes(self._episode(each) for each in originals)
        self._entries = {each.id: each for each in entries}

    def _episode(self, entry: WorkingEntry) -> Episode:
        metadata = {"role": entry.role, "tags": list(entry.tags)}
        return Episode(entry.text, metadata=metadata, namespace=self._namespace, kind=_KIND, id=entry.id)

    def compact(self) -> None:
        """Summarise what is oldest and not pinned, down to three quarters of the budget.

        Raises:
            CapacityExceeded, EpisodeStoreError: as `add`.
        """
        with self._lock:
            originals = list[WorkingEntry]()
            self._replace(self._made_to_fit(list(self._entries.values()), originals, part=_TARGET), originals)

    def original(self, entry_id: str) -> str:
        """Return the whole text of an entry that is here, spilled, or summarised.

        Raises:
            EpisodeMissing: if there never was such an entry; for a summary, whose originals have ids of their own.
        """
        with self._lock:
            entry = self._entries.get(entry_id)
        if entry is not None and entry.summary_of:
            raise EpisodeMissing(
                f"{entry_id} is a summary; its originals are {', '.join(entry.summary_of[:5])}",
                episode_id=entry_id,
            )
        if entry is not None and not entry.is_spilled:
            return entry.text
        return self._store.get_episode(entry_id).text

    def pin(self, entry_id: str, *, pinned: bool = True) -> None:
        """Keep an entry as it is whatever the budget, or do not any more.

        Raises:
            EpisodeMissing: if it is not here.
        """
        self._change(entry_id, lambda entry: replace(entry, is_pinned=pinned))

    def tag(self, entry_id: str, *tags: str) -> None:
        """Give an entry further tags.

        Raises:
            EpisodeMissing: if it is not here.
        """
        self._change(entry_id, lambda entry: replace(entry, tags=tuple(dict.fromkeys((*entry.tags, *tags)))))

    def _change(self, entry_id: str, change: Callable[[WorkingEntry], WorkingEntry]) -> None:
        with self._lock:
            if entry_id not in self._entries:
                raise EpisodeMissing(
                    f"there is no entry {entry_id!r} here; was it summarised?", episode_id=entry_id
                )
            self._entries[entry_id] = change(self._entries[entry_id])

    def entries(self, tag: str | None = None) -> tuple[WorkingEntry, ...]:
        """Return what is here, the oldest first; with ``tag`` those that have it."""
        with self._lock:
            return tuple(each for each in self._entries.values() if tag is None or tag in each.tags)

    @property
    def tokens(self) -> int:
        """What all entries take of the budget of tokens."""
        return sum(each.tokens for each in self.entries())

    @property
    def size_bytes(self) -> int:
        """What all entries take of the budget of bytes."""
        return sum(each.size_bytes for each in self.entries())

    def __len__(self) -> int:
        return len(self._entries)

    def state_dict(self) -> dict[str, Any]:
        """Return budgets and entries as JSON has them; originals are in the store, and only their ids are here."""
        with self._lock:
            entries = [{**asdict(each), "tags": list(each.tags), "summary_of": list(each.summary_of)}
                       for each in self._entries.values()]  # fmt: skip
        return {
            "schema": _SCHEMA,
            "namespace": self._namespace,
            "budget_tokens": self._budget_tokens,
            "budget_bytes": self._budget_bytes,
            "spill_bytes": self._spill_bytes,
            "preview_tokens": self._preview_tokens,
            "entries": entries,
        }

    def load_state_dict(self, state: Mapping[str, Any], *, strict: bool = True) -> StateDifference:
        """Take budgets and entries of a `state_dict`, in place of what is here.

        Args:
            state: what was given.
            strict: refuse a state with other names, and one whose originals this store does not have.

        Raises:
            StateMismatch: for another schema or other names.
            EpisodeInvalid: for values that are none; nothing was changed.
            EpisodeMissing: with ``strict`` for an original that is not in the store.
        """
        names = [name for name in self.state_dict() if name != "schema"]
        known, difference = known_state(state, _SCHEMA, names, strict=strict)
        try:
            entries = {each["id"]: _entry(each) for each in known.pop("entries", ())}
            budgets = {
                f"_{name}": _positive(name, value) for name, value in known.items() if name != "namespace"
            }
        except (TypeError, KeyError, ValueError) as error:
            raise EpisodeInvalid(f"the state of a working memory has impossible values: {error}") from error
        if strict:
            self._check_originals(entries.values())
        with self._lock:
            if "entries" not in difference.missing:
                self._entries = entries
            self._namespace = str(known.get("namespace", self._namespace))
            self.__dict__.update(budgets)
        return difference

    def _check_originals(self, entries: Iterable[WorkingEntry]) -> None:
        for each in entries:
            for wanted in each.summary_of or ((each.id,) if each.is_spilled else ()):
                if wanted not in self._store:
                    raise EpisodeMissing(
                        f"the original {wanted} is not in {self._store.folder}; give the store that the state is of",
                        episode_id=wanted,
                    )


def _entry(told: Mapping[str, Any]) -> WorkingEntry:
    return WorkingEntry(**{**told, "tags": tuple(told["tags"]), "summary_of": tuple(told["summary_of"])})


def _positive(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is a whole number from 1, not {value!r:.40}")
    return value
