"""An episode made ready to be stored: checked, its vector as bytes, its metadata as canonical JSON, a sum over all.

Pure. All that can be wrong with an episode by itself is found here, before any lock is taken.
"""

from __future__ import annotations

import json
import json.encoder
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeGuard
from zlib import crc32

import numpy as np

from memguard.episodes.embedding import Embedder
from memguard.episodes.ids import check_id, new_ids
from memguard.episodes.records import Episode
from memguard.errors import EpisodeInvalid
from memguard.units import format_bytes

__all__ = ["Prepared", "check_name", "checksum", "prepare", "vector_bytes"]

_LONGEST_NAME: Final = 200
# Names that were looked at already: most episodes have one of a few.
_MOST_KNOWN: Final = 1000
_known: Final[set[str]] = set()
# Fewer vectors than this are looked at one by one.
_FEW: Final = 4
# Of so many vectors the bytes are made at once and then cut: faster than one by one, and without a copy more of all.
_CUT_AT_ONCE: Final = 512
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
# Canonical: the same metadata gives the same text, so that episodes can be compared as they are stored.
_encode: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True
).encode
# What a mapping without others in it holds, as most metadata do.
_TEXTS: Final = frozenset((str,))
_SCALARS: Final = frozenset((str, int, float, bool, type(None)))
# SQLite's integers end at 63 bits; this is the year 9999.
_LATEST_S: Final = 253_402_300_799.0


def _kept_encoder() -> Callable[[dict[str, Any]], str]:
    """Return `_encode` for flat mappings with the standard library's encoder kept, which takes half of the time.

    `_encode` makes one for each call, to find circles, which flat mappings cannot have.
    """
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # a Python without it
        return _encode
    escaped: Any = getattr(json.encoder, "encode_basestring")  # noqa: B009 - typeshed does not know it
    encoder = make(None, None, escaped, None, ":", ",", True, False, False)
    return lambda metadata: "".join(encoder(metadata, 0))


_encode_flat: Final = _kept_encoder()


class Prepared(NamedTuple):
    """An episode as it is written.

    Attributes:
        id: given or made.
        is_given: whether somebody gave it, so that it may be there already.
        namespace: whose it is.
        kind: of what sort.
        happened_us: microseconds since 1970; ``None``: when it is stored.
        text: as it was given.
        metadata: canonical JSON.
        vector: float32, native order; ``None``: it has none.
        checksum: over text, metadata and vector.
        text_bytes: of the text, as UTF-8.
        size_bytes: what it takes of a budget: text, metadata and vector.
        embedder: what made the vector of the text; ``""`` where it was given, or there is none.
    """

    id: str
    is_given: bool
    namespace: str
    kind: str
    happened_us: int | None
    text: str
    metadata: str
    vector: bytes | None
    checksum: int
    text_bytes: int
    size_bytes: int
    embedder: str = ""


_new: Final = tuple.__new__


def checksum(text: bytes, metadata: bytes, vector: bytes | None) -> int:
    """Return a CRC-32 that tells bytes that turned from what was stored; it is no protection against intent."""
    return crc32(vector or b"", crc32(metadata, crc32(text)))


def prepare(
    episodes: Iterable[Episode], *, max_text_bytes: int, embedder: Embedder | None = None
) -> list[Prepared]:
    """Check episodes and make them ready; what has a text and no vector gets one of the embedder, if there is one.

    Raises:
        EpisodeInvalid: it says which of them, and what is wrong with it.
    """
    given = list(episodes)
    ready = _ready(given, max_text_bytes)
    if embedder is None:
        return ready
    bare = [at for at, each in enumerate(ready) if each.vector is None and each.text]
    if not bare:
        return ready
    made = _checked(embedder.embed([ready[at].text for at in bare]), len(bare), embedder)
    for at, vector in zip(bare, made, strict=True):
        each = ready[at]
        stored = vector_bytes(vector)
        told = checksum(each.text.encode(), each.metadata.encode(), stored)
        size = each.size_bytes + len(stored)
        ready[at] = each._replace(vector=stored, checksum=told, size_bytes=size, embedder=embedder.name)
    return ready


def _checked(made: Any, count: int, embedder: Embedder) -> Any:
    shape = np.shape(made)
    if shape != (count, embedder.dimension):
        raise EpisodeInvalid(
            f"the embedder {embedder.name} made {shape} of {count} texts, not ({count}, {embedder.dimension})"
        )
    return made


def _ready(given: Sequence[Episode], max_text_bytes: int) -> list[Prepared]:
    if len(given) == 1:
        return [_prepare(given[0], None, iter(new_ids(1)), max_text_bytes)]
    fresh = iter(new_ids(len([each for each in given if not getattr(each, "id", "")])))
    vectors: Sequence[bytes | None] = _all_vectors(given) or [None] * len(given)
    ready = []
    for number, (episode, vector) in enumerate(zip(given, vectors, strict=True)):
        try:
            ready.append(_prepare(episode, vector, fresh, max_text_bytes))
        except EpisodeInvalid as error:
            raise EpisodeInvalid(f"episode {number + 1} of {len(given)}: {error}") from error
    return ready


def _all_vectors(episodes: Sequence[Episode]) -> list[bytes] | None:
    """Return all vectors at once, where each has one and nothing is wrong with any; else look at them one by one."""
    if len(episodes) < _FEW:
        return None
    try:
        matrix = np.array([each.vector for each in episodes], dtype=np.float32)
    except (TypeError, ValueError, AttributeError, OverflowError):
        return None
    if matrix.ndim != 2 or not matrix.size:
        return None
    lengths = np.einsum("ij,ij->i", matrix, matrix)
    if not np.isfinite(lengths).all() or not lengths.all():
        return None
    width, cut = 4 * matrix.shape[1], []
    for first in range(0, len(matrix), _CUT_AT_ONCE):
        some = matrix[first : first + _CUT_AT_ONCE].tobytes()
        cut += [some[start : start + width] for start in range(0, len(some), width)]
    return cut


def _prepare(episode: Episode, vector: bytes | None, fresh: Iterator[str], max_text_bytes: int) -> Prepared:
    if not isinstance(episode, Episode):
        raise EpisodeInvalid(f"a {type(episode).__name__} is no Episode")
    text = _text(episode.text, max_text_bytes)
    metadata, stored = _metadata(episode.metadata, max_text_bytes)
    if vector is None:
        vector = b"" if episode.vector is None else vector_bytes(episode.vector)
    given, moment_s = episode.id, episode.happened_at_s
    # As `Prepared(...)`, in half of the time, which counts in a batch of thousands.
    return _new(Prepared, (
        _given_id(given) if given else next(fresh),
        bool(given),
        check_name(episode.namespace, "namespace"),
        check_name(episode.kind, "kind"),
        None if moment_s is None else _microseconds(moment_s),
        episode.text,
        metadata,
        vector or None,
        checksum(text, stored, vector),
        len(text),
        len(text) + len(stored) + len(vector),
        "",
    ))  # fmt: skip


def _given_id(given: str) -> str:
    try:
        return check_id(given)
    except ValueError as error:
        raise EpisodeInvalid(str(error)) from error


def check_name(name: object, what: str) -> str:
    """Return the name of a namespace or a kind.

    Raises:
        EpisodeInvalid: if it is no text of 1 to 200 characters, or has control characters.
    """
    if isinstance(name, str) and name in _known:
        return name
    if isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and not _UNPRINTABLE.search(name):
        if len(_known) < _MOST_KNOWN:
            _known.add(name)
        return name
    raise EpisodeInvalid(f"a {what} is a text of 1 to {_LONGEST_NAME} characters without control characters")


def _text(text: object, max_text_bytes: int) -> bytes:
    if not isinstance(text, str):
        raise EpisodeInvalid(f"the text is a {type(text).__name__}, not a str")
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        raise EpisodeInvalid(
            f"the text has half of a surrogate pair at character {error.start}, which is no character; "
            "replace it, for instance with text.encode('utf-8', 'replace').decode()"
        ) from error
    if len(encoded) > max_text_bytes:
        raise EpisodeInvalid(
            f"the text has {format_bytes(len(encoded))}, more than {format_bytes(max_text_bytes)} "
            "(max_text_bytes); split it, or keep it elsewhere and its place in the metadata"
        )
    return encoded


def _metadata(metadata: object, most_bytes: int) -> tuple[str, bytes]:
    if type(metadata) is not dict and not isinstance(metadata, Mapping):
        raise EpisodeInvalid(f"the metadata are a {type(metadata).__name__}, not a mapping")
    if not metadata:
        return "{}", b"{}"
    try:
        told = _encode_flat(metadata) if _is_flat(metadata) else _encode_deep(metadata)
        stored = told.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise EpisodeInvalid(f"the metadata are not what JSON can hold: {error}") from error
    if len(stored) > most_bytes:
        raise EpisodeInvalid(
            f"the metadata have {format_bytes(len(stored))}, more than {format_bytes(most_bytes)}"
        )
    return told, stored


def _is_flat(metadata: Mapping[Any, Any]) -> TypeGuard[dict[str, Any]]:
    return (
        type(metadata) is dict
        and _TEXTS.issuperset(map(type, metadata))
        and _SCALARS.issuperset(map(type, metadata.values()))
    )


def _encode_deep(metadata: Mapping[str, Any]) -> str:
    _check_keys(metadata)
    return _encode(metadata if isinstance(metadata, dict) else dict(metadata))


def _check_keys(value: Any) -> None:
    """Refuse keys that are no texts: JSON would make texts of them, and two of them might become one."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if type(key) is not str:
                raise TypeError(f"a key is a {type(key).__name__}, not a str")
            if type(inner) is not str:
                _check_keys(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_keys(inner)


def _microseconds(seconds: float) -> int:
    try:
        moment = float(seconds)
    except (TypeError, ValueError) as error:
        raise EpisodeInvalid(f"happened_at_s is no number: {seconds!r}") from error
    if not (math.isfinite(moment) and abs(moment) <= _LATEST_S):
        raise EpisodeInvalid(f"happened_at_s is no moment in seconds since 1970: {seconds!r}")
    return round(moment * 1_000_000)


def vector_bytes(vector: object) -> bytes:
    """Return a vector as float32.

    Raises:
        EpisodeInvalid: if it is no row of numbers, is empty, not finite (as float32), or all zero.
    """
    try:
        row = np.asarray(vector, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise EpisodeInvalid(f"the vector is no row of numbers: {error}") from error
    if row.ndim != 1 or not row.size:
        raise EpisodeInvalid(f"the vector has the shape {row.shape}, not (dimension,)")
    length = float(np.dot(row, row))
    # Of finite numbers too large to be squared the length is infinite, so they are looked at one by one.
    if not math.isfinite(length) and not np.isfinite(row).all():
        raise EpisodeInvalid("the vector has NaN or infinity in it")
    if length == 0.0 and not row.any():
        raise EpisodeInvalid("the vector is all zero, so it has no direction to be found by")
    return row.tobytes()
