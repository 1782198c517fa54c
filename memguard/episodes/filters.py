"""Conditions on episodes, as SQL: by kind, by time, and by what their metadata say.

Pure. A filter on metadata is a mapping: `{"rows": 5}` for a value, `{"rows": {"gte": 5, "lt": 9}}` for a comparison,
and `{"and": [...]}`, `{"or": [...]}`, `{"not": {...}}` to join them. Several keys in one mapping must all hold.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypedDict

from memguard.episodes.preparing import check_name
from memguard.errors import EpisodeInvalid

__all__ = ["Condition", "Conditions", "condition_for"]

# What SQLite's paths into JSON would take for something else, and half surrogate pairs.
_NOT_IN_PATHS: Final = re.compile(r'["\\\x00\ud800-\udfff]')
# Within what SQLite's integers hold in microseconds.
_LATEST_S: Final = 9e12
_KNOWN: Final = "where, kind, since_s and until_s"
_DEEPEST: Final = 20
# Whole numbers below it are written without an exponent, be they integers or not.
_MOST_PLAIN: Final = 10**15
# SQLite binds 32,766 values to a statement.
_MOST_VALUES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on the table `episode`.

    Attributes:
        sql: in terms of its columns; ``""``: none.
        values: what is bound to it.
    """

    sql: str = ""
    values: tuple[Any, ...] = ()

    @property
    def conjunct(self) -> str:
        """The condition with an AND before it, or nothing."""
        return f" AND {self.sql}" if self.sql else ""


class Conditions(TypedDict, total=False):
    """What can be asked of episodes; what is left out, or ``None``, asks nothing.

    Attributes:
        where: on the metadata; see the module.
        kind: the episodes' kind.
        since_s: earliest moment at which they happened, seconds since 1970.
        until_s: the moment before which they happened.
    """

    where: Mapping[str, Any] | None
    kind: str | None
    since_s: float | None
    until_s: float | None


def condition_for(conditions: Conditions) -> Condition:
    """Return conditions as SQL.

    Raises:
        EpisodeInvalid: if they do not parse; it says where.
    """
    unknown = set(conditions) - set(Conditions.__annotations__)
    if unknown:
        raise TypeError(f"{', '.join(sorted(unknown))}: no such condition; {_KNOWN} are")
    where, kind = conditions.get("where"), conditions.get("kind")
    since_s, until_s = conditions.get("since_s"), conditions.get("until_s")
    parts: list[str] = []
    values: list[Any] = []
    if kind is not None:
        parts.append("kind = ?")
        values.append(check_name(kind, "kind"))
    for moment, sign in ((since_s, ">="), (until_s, "<")):
        if moment is not None:
            parts.append(f"happened_us {sign} ?")
            values.append(_moment(moment))
    if where is not None:
        parts.append(_on_metadata(where, values))
    if len(values) > _MOST_VALUES:
        raise EpisodeInvalid(f"the filter has {len(values)} values, more than {_MOST_VALUES}")
    return Condition(" AND ".join(parts), tuple(values))


def _on_metadata(where: Any, values: list[Any]) -> str:
    """Return a filter on the metadata; of most episodes that do not meet it their JSON need not be parsed."""
    told = _told_by(where) if isinstance(where, Mapping) else []
    values.extend(told)
    # Where a bit turned, the metadata may be no JSON any more: that episode meets nothing.
    return (
        f"CASE {'WHEN instr(metadata, ?) = 0 THEN 0 ' * len(told)}"
        f"WHEN json_valid(metadata) THEN {_mapping(where, values, 0)} ELSE 0 END"
    )


def _told_by(where: Mapping[Any, Any]) -> list[str]:
    """Return what stands in the metadata, which are canonical JSON, of every episode that meets a filter."""
    found = []
    for key, asked in where.items():
        if not isinstance(key, str) or key in ("and", "or", "not") or _NOT_IN_PATHS.search(key):
            continue
        value = asked.get("eq", asked) if isinstance(asked, Mapping) and len(asked) == 1 else asked
        if (begin := _begin_of(value)) is not None:
            found.append(f"{json.dumps(key, ensure_ascii=False)}:{begin}")
    return found


def _begin_of(value: Any) -> str | None:
    """Return how all that equals a value begins in JSON; ``None``: in more than one way."""
    if isinstance(value, str):
        return None if _NOT_IN_PATHS.search(value) else json.dumps(value, ensure_ascii=False)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    # 5 and 5.0 are equal, 0 and -0.0 too; larger ones are written with an exponent.
    if isinstance(value, int) and 0 < abs(value) < _MOST_PLAIN:
        return str(int(value))
    return None


def _moment(seconds: float) -> int:
    if not isinstance(seconds, int | float) or not abs(seconds) < _LATEST_S:
        raise EpisodeInvalid(f"no moment in seconds since 1970: {seconds!r}")
    return round(seconds * 1_000_000)


def _mapping(where: Any, values: list[Any], depth: int) -> str:
    if not isinstance(where, Mapping):
        raise EpisodeInvalid(f"a filter is a mapping, as {{'rows': {{'gte': 5}}}}; this is {where!r}")
    if depth > _DEEPEST:
        raise EpisodeInvalid(f"the filter is nested deeper than {_DEEPEST}")
    parts = [_entry(key, asked, values, depth) for key, asked in where.items()]
    return f"({' AND '.join(parts)})" if parts else "1"


def _entry(key: Any, asked: Any, values: list[Any], depth: int) -> str:
    if key in ("and", "or"):
        if not isinstance(asked, list | tuple) or not asked:
            raise EpisodeInvalid(f"{key!r} takes a list of filters, not {asked!r}")
        return _joined(key.upper(), [_mapping(each, values, depth + 1) for each in asked])
    if key == "not":
        return f"NOT {_mapping(asked, values, depth + 1)}"
    if not isinstance(key, str) or _NOT_IN_PATHS.search(key):
        raise EpisodeInvalid(f"a key in a filter is a text without quotes, backslashes and NUL, not {key!r}")
    return _of_key(f'$."{key}"', asked, values)


def _of_key(path: str, asked: Any, values: list[Any]) -> str:
    if not isinstance(asked, Mapping):
        return _equals(path, asked, values)
    parts = [_operator(path, name, value, values) for name, value in asked.items()]
    if not parts:
        raise EpisodeInvalid(f"nothing is asked of {path[3:-1]!r}; one of {', '.join(_OPERATORS)} is")
    return f"({' AND '.join(parts)})"


def _operator(path: str, name: Any, value: Any, values: list[Any]) -> str:
    act = _OPERATORS.get(name)
    if act is None:
        raise EpisodeInvalid(f"{name!r} is no operator; one of {', '.join(_OPERATORS)} is")
    return act(path, value, values)


def _bind(values: list[Any], *more: Any) -> None:
    values.extend(more)


def _equals(path: str, value: Any, values: list[Any]) -> str:
    if value is None or isinstance(value, bool):
        _bind(values, path, "null" if value is None else str(value).lower())
        return "coalesce(json_type(metadata, ?) = ?, 0)"
    if isinstance(value, int | float):
        _bind(values, path, path, _number(value))
        return "coalesce(json_type(metadata, ?) IN ('integer', 'real') AND metadata ->> ? = ?, 0)"
    if isinstance(value, str):
        _bind(values, path, path, _plain(value))
        return "coalesce(json_type(metadata, ?) = 'text' AND metadata ->> ? = ?, 0)"
    _bind(values, path, _canonical(value))
    return "coalesce(metadata -> ? = ?, 0)"


def _differs(path: str, value: Any, values: list[Any]) -> str:
    return f"NOT {_equals(path, value, values)}"


def _is_in(path: str, value: Any, values: list[Any]) -> str:
    if not isinstance(value, list | tuple):
        raise EpisodeInvalid(f"'in' takes a list of values, not {value!r}")
    return _joined("OR", [_equals(path, each, values) for each in value]) if value else "0"


def _joined(word: str, parts: list[str]) -> str:
    """Join conditions as a balanced tree: SQLite takes none deeper than 1,000."""
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    return f"({_joined(word, parts[:middle])} {word} {_joined(word, parts[middle:])})"


def _compares(sign: str) -> Callable[[str, Any, list[Any]], str]:
    def compares(path: str, value: Any, values: list[Any]) -> str:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise EpisodeInvalid(f"only numbers and texts have an order, not {value!r}")
        kinds = "'text'" if isinstance(value, str) else "'integer', 'real'"
        _bind(values, path, path, _plain(value) if isinstance(value, str) else _number(value))
        return f"coalesce(json_type(metadata, ?) IN ({kinds}) AND metadata ->> ? {sign} ?, 0)"

    return compares


def _in_range(path: str, value: Any, values: list[Any]) -> str:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise EpisodeInvalid(f"'range' takes [lowest, highest], not {value!r}")
    low, high = _OPERATORS["gte"](path, value[0], values), _OPERATORS["lte"](path, value[1], values)
    return f"({low} AND {high})"


def _contains(path: str, value: Any, values: list[Any]) -> str:
    """Return whether a list has an element, or a text a part."""
    _bind(values, path, path)
    listed = (
        "(json_type(metadata, ?) = 'array' AND EXISTS "
        f"(SELECT 1 FROM json_each(metadata, ?) AS item WHERE {_is_item(value, values)}))"
    )
    if not isinstance(value, str):
        return f"coalesce({listed}, 0)"
    _bind(values, path, path, value)
    text = "(json_type(metadata, ?) = 'text' AND instr(metadata ->> ?, ?) > 0)"
    return f"(coalesce({listed}, 0) OR coalesce({text}, 0))"


def _is_item(value: Any, values: list[Any]) -> str:
    if value is None or isinstance(value, bool):
        _bind(values, "null" if value is None else str(value).lower())
        return "item.type = ?"
    if isinstance(value, int | float):
        _bind(values, _number(value))
        return "item.type IN ('integer', 'real') AND item.atom = ?"
    if isinstance(value, str):
        _bind(values, _plain(value))
        return "item.type = 'text' AND item.atom = ?"
    _bind(values, _canonical(value))
    return "item.value = ?"


def _exists(path: str, value: Any, values: list[Any]) -> str:
    if not isinstance(value, bool):
        raise EpisodeInvalid(f"'exists' takes true or false, not {value!r}")
    _bind(values, path)
    return f"json_type(metadata, ?) IS {'NOT ' if value else ''}NULL"


_OPERATORS: Final[dict[str, Callable[[str, Any, list[Any]], str]]] = {
    "eq": _equals,
    "ne": _differs,
    "in": _is_in,
    "gt": _compares(">"),
    "gte": _compares(">="),
    "lt": _compares("<"),
    "lte": _compares("<="),
    "range": _in_range,
    "contains": _contains,
    "exists": _exists,
}


def _number(value: float) -> float:
    if isinstance(value, float) and not math.isfinite(value):
        raise EpisodeInvalid(f"{value!r} is no number that metadata can hold")
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        try:
            return float(value)  # as SQLite has it of a number in JSON that is too large
        except OverflowError as error:
            raise EpisodeInvalid(
                f"a number of {len(str(value))} digits is none that metadata can hold"
            ) from error
    return value


def _plain(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise EpisodeInvalid("half of a surrogate pair is no character") from error
    return value


def _canonical(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise EpisodeInvalid(f"{value!r} is nothing that metadata can hold: {error}") from error
