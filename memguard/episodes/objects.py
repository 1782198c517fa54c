"""Objects that another program has in memory, as records: what older systems keep their experiences in.

Comes in: anything with text, vector and metadata. Goes out: the same records as of a file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, Final

import numpy as np

from memguard.episodes.records import Episode
from memguard.episodes.sources import NAMES, Record, digest_of
from memguard.errors import DataError, EpisodeInvalid

__all__ = ["ObjectSource"]

_OWN: Final = ("text", "vector", "metadata", "namespace", "kind", "happened_at_s", "id")


class ObjectSource:
    """Objects that another program has in memory.

    Args:
        objects: anything with ``text``, and ``vector``, ``metadata``, ``id`` where there are (or under the names that
            files have them by): as attributes or in a mapping; tuples (text, vector, metadata, id), from the left as
            many as there are; `Episode`; a text by itself.
        name: tells these objects from others: the same objects under the same name add nothing again.
        namespace: where episodes go that do not say so themselves.
    """

    size_bytes = None

    def __init__(self, objects: Iterable[Any], name: str, namespace: str = "default") -> None:
        self._objects, self.name, self.namespace = objects, name, namespace

    @property
    def mark(self) -> str:
        """What tells these objects from others that go to the same namespace."""
        told = hashlib.blake2b(f"objects\0{self.name}\0{self.namespace}".encode(), digest_size=10)
        return told.hexdigest()

    def records(self, after: int = 0, proof: str = "") -> Iterator[Record]:
        """Give all: objects are given once, and what was added before is known by its id."""
        for number, each in enumerate(self._objects, start=1):
            try:
                content: Any = _content_of(each)
                stored = _stored(content)
            except EpisodeInvalid as error:
                content, stored = self.wrong(number, str(error)), b""
            yield Record(number, number, content, digest_of(stored), "")

    def wrong(self, number: int, what: str) -> DataError:
        """Return what is wrong with an object, with its number."""
        return DataError(what, subject=f"{self.name}:{number}", remedy="mend it, or leave such objects out")


def _content_of(each: Any) -> Any:
    if isinstance(each, Mapping | str):
        return each
    if isinstance(each, Episode):
        return {name: getattr(each, name) for name in _OWN}
    if hasattr(each, "_asdict"):
        return each._asdict()
    if isinstance(each, tuple):
        return dict(zip(("text", "vector", "metadata", "id"), each, strict=False))
    if is_dataclass(each) and not isinstance(each, type):
        return asdict(each)
    names = [name for several in (*NAMES.values(), ("id", "kind", "namespace")) for name in several]
    found = {name: getattr(each, name) for name in names if getattr(each, name, None) is not None}
    if not found:
        raise EpisodeInvalid(f"a {type(each).__name__} has neither text nor vector nor metadata")
    return found


def _stored(content: Any) -> bytes:
    """Return what tells an object from another of the same place; a vector counts as float32."""
    if isinstance(content, str):
        return content.encode("utf-8", "surrogatepass")
    found = dict(content)
    parts = []
    for name in NAMES["vector"]:
        if found.get(name) is not None:
            try:
                parts.append(np.asarray(found.pop(name), np.float32).tobytes())
            except (TypeError, ValueError, OverflowError) as error:
                raise EpisodeInvalid(f"the vector is no row of numbers: {error}") from error
    return b"".join([json.dumps(found, default=str, sort_keys=True).encode(), *parts])
