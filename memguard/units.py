"""Sizes and durations: text becomes a number once, at the border, and is a number ever after.

Comes in: what a person typed (``"4GiB"``, ``"80%"``, ``"5m"``). Goes out: bytes and seconds.
No library reads all of these forms right (``"80%"`` as 80 bytes, ``"4Gi"`` as 4·10⁹), hence this one.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from operator import index
from typing import Final, SupportsIndex

from memguard.errors import DurationSyntaxError, SizeSyntaxError

__all__ = [
    "DURATION_FORMS",
    "GIB",
    "KIB",
    "MIB",
    "SIZE_FORMS",
    "SMALLEST_BUDGET_BYTES",
    "Size",
    "format_bytes",
    "format_duration",
    "format_setting",
    "format_share",
    "guess_unit",
    "parse_bytes",
    "parse_duration",
    "parse_size",
]

KIB: Final = 1024
MIB: Final = 1024**2
GIB: Final = 1024**3

# A forked interpreter with nothing to do needs 3 to 8 MiB of its own; below this a budget is a typing error.
SMALLEST_BUDGET_BYTES: Final = 16 * MIB

SIZE_FORMS: Final = "4GiB, 4Gi, 4G (all 2^30 each), 4GB (10^9), 512M, 80% (of capacity), or plain bytes"
DURATION_FORMS: Final = "250ms, 30s, 5m, 4h, 1d, 1h30m, or plain seconds"

# A hundred years; beyond it a duration is a typing error, and timers of the system overflow.
_LONGEST_S: Final = 100 * 366 * 86400.0
_PREFIXES: Final = "kmgtp"
_IEC_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(b|%|[kmgtp](?:ib?|b)?)?", re.ASCII | re.IGNORECASE)
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)", re.ASCII)
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# 2^60 bytes is a million times the largest machine; beyond it a size is a typing error.
_LARGEST: Final = 2**60
# A machine as large as many have; what is guessed of an unknown one must fit it.
_PLAUSIBLE: Final = 1024 * GIB
# Digits enough for 2^60 with any number of decimals that still matter; int() itself refuses over 4300.
_LONGEST_NUMBER: Final = 40


@dataclass(frozen=True, slots=True)
class Size:
    """An amount of memory as a person gave it: absolute, or a share of a capacity still unknown.

    Attributes:
        text: what was typed, for messages.
        absolute_bytes: bytes, or ``None`` when the size is a share.
        fraction: share of the capacity, 0 to 1, or ``None`` when the size is absolute.
    """

    text: str
    absolute_bytes: int | None
    fraction: float | None

    @property
    def canonical(self) -> str:
        """The same text for the same size, however it was typed: ``"1GiB"`` for 1024MiB."""
        if self.absolute_bytes is None:
            return f"{(self.fraction or 0.0) * 100:.12g}%"
        for factor, unit in ((GIB, "GiB"), (MIB, "MiB")):
            if self.absolute_bytes and self.absolute_bytes % factor == 0:
                return f"{self.absolute_bytes // factor}{unit}"
        return f"{self.absolute_bytes}B"

    def resolve(self, capacity_bytes: int) -> int:
        """Return the size in bytes, taking a share of ``capacity_bytes`` where it is one."""
        if self.absolute_bytes is not None:
            return self.absolute_bytes
        assert self.fraction is not None
        return int(capacity_bytes * self.fraction)


def parse_size(value: str | SupportsIndex | Size) -> Size:
    """Read a size.

    Args:
        value: one of the forms in the message of the error, a whole number of bytes (NumPy's too), or a
            `Size`.

    Returns:
        The size; a percentage stays a share until `Size.resolve` is told the capacity.

    Raises:
        SizeSyntaxError: for anything else; the message names the forms.
    """
    if isinstance(value, Size):
        return value
    if isinstance(value, SupportsIndex) and not isinstance(value, bool):
        return _from_int(index(value))
    text = value.strip() if isinstance(value, str) else ""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise _refusal(value)
    try:
        return _from_parts(text, match[1], (match[2] or "").lower())
    except SizeSyntaxError as error:
        error.text = str(value)  # as it was given, with the spaces around it
        raise


def parse_bytes(value: str | SupportsIndex | Size, capacity_bytes: int | None = None) -> int:
    """Read a size and resolve it to bytes at once.

    Args:
        value: as for `parse_size`.
        capacity_bytes: what a percentage is a share of; ``None`` where no share makes sense.

    Raises:
        SizeSyntaxError: for an unreadable size, or a percentage where there is no capacity.
    """
    size = parse_size(value)
    if size.absolute_bytes is not None:
        return size.absolute_bytes
    if capacity_bytes is None:
        raise _refusal(size.text, "a percentage has no meaning here")
    return size.resolve(capacity_bytes)


def _from_int(count: int) -> Size:
    if not 0 <= count <= _LARGEST:
        raise _refusal(count, "negative" if count < 0 else "larger than 2^60 bytes")
    return Size(str(count), count, None)


def _from_parts(text: str, number: str, unit: str) -> Size:
    if len(number) > _LONGEST_NUMBER:
        raise _refusal(text, "a number that long is a typing error")
    if unit == "%":
        return _share(text, float(number))
    if unit in ("", "b") and "." in number:
        hint = f"did you mean {float(number) * 100:g}%?" if float(number) <= 1 else "a byte cannot be divided"
        raise _refusal(text, hint)
    return _absolute(text, number, _factor(unit))


def _share(text: str, percent: float) -> Size:
    if percent > 100:
        raise _refusal(text, "more than 100 %")
    return Size(text, None, percent / 100)


def _factor(unit: str) -> int:
    if unit in ("", "b"):
        return 1
    base: int = 1000 if unit.endswith("b") and "i" not in unit else 1024
    factor: int = base ** (_PREFIXES.index(unit[0]) + 1)
    return factor


def _absolute(text: str, number: str, factor: int) -> Size:
    # Whole numbers stay exact: a float holds integers only up to 2^53.
    amount = round(float(number) * factor) if "." in number else int(number) * factor
    if amount > _LARGEST:
        raise _refusal(text, "larger than 2^60 bytes")
    return Size(text, amount, None)


def _refusal(value: object, why: str = "") -> SizeSyntaxError:
    reason = f" ({why})" if why else ""
    message = f"{_shown(value)} is not a size{reason}; write {SIZE_FORMS}"
    return SizeSyntaxError(message, text=value if isinstance(value, str) else _shown(value))


def _shown(value: object) -> str:
    """Return ``value`` quoted and short; a whole number of thousands of digits has no text in Python."""
    if isinstance(value, int) and abs(value) > _LARGEST:
        return "a number beyond 2^60"
    text = str(value)
    return repr(text if len(text) <= 40 else text[:37] + "...")


def format_bytes(count: float) -> str:
    """Write bytes for people: IEC units and one decimal at most, ``"1.4 GiB"``, ``"512 MiB"``."""
    magnitude, exponent = float(abs(count)), 0
    while round(magnitude, 1) >= KIB and exponent < len(_IEC_UNITS) - 1:
        magnitude, exponent = magnitude / KIB, exponent + 1
    digits = f"{magnitude:.{min(exponent, 1)}f}".removesuffix(".0")
    return f"{'-' if count < 0 else ''}{digits} {_IEC_UNITS[exponent]}"


def guess_unit(text: str, most_bytes: int = _PLAUSIBLE) -> str:
    """Return what a bare number may have meant that is too small as bytes: ``"; did you mean 80MiB or 80%?"``.

    Args:
        text: what was typed.
        most_bytes: what would be refused is not suggested: more than this, or a share of it that is too small.

    Returns:
        ``""`` where nothing would do.
    """
    count = int(text) if text.isdecimal() and len(text) <= _LONGEST_NUMBER else 0
    factor, unit = (MIB, "MiB") if count * MIB >= SMALLEST_BUDGET_BYTES else (GIB, "GiB")
    guesses = [f"{count}{unit}"] if 0 < count * factor <= most_bytes else []
    if 0 < count <= 100 and most_bytes * count // 100 >= SMALLEST_BUDGET_BYTES:
        guesses.append(f"{count}%")
    return f"; did you mean {' or '.join(guesses)}?" if guesses else ""


def format_share(fraction: float) -> str:
    """Write a share for people, never rounded to none or to all of it: ``"84%"``, ``"0.5%"``, ``"99.9%"``."""
    percent = fraction * 100
    if 0 < percent < 0.1:
        return "<0.1%"
    if round(percent, 1) < 10 or (round(percent) == 100 and percent < 100):
        return f"{min(percent, 99.9):.1f}".removesuffix(".0") + "%"
    return f"{percent:.0f}%"


def format_setting(count: int) -> str:
    """Write bytes as a setting that can be typed back, rounded up: ``"1.8GiB"``.

    Returns:
        A text for which ``parse_bytes(text) >= count`` holds.
    """
    for factor, unit in ((GIB, "GiB"), (MIB, "MiB")):
        if count >= factor:
            tenths = math.ceil(count * 10 / factor)
            while round(tenths / 10 * factor) < count:
                tenths += 1
            return f"{tenths / 10:.1f}".removesuffix(".0") + unit
    return f"{math.ceil(count / KIB)}KiB"


def parse_duration(value: str | float) -> float:
    """Read a duration.

    Args:
        value: ``250ms``, ``30s``, ``5m``, ``4h``, ``1d``, parts joined as in ``1h30m``, or seconds.

    Returns:
        Seconds, from 0 to a hundred years.

    Raises:
        DurationSyntaxError: for anything else; the message names the forms.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _checked_seconds(value, value)
    text = value.strip() if isinstance(value, str) else ""
    if _NUMBER.fullmatch(text):
        return _checked_seconds(float(text), text)
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise _duration_refusal(value)
    # To the nanosecond, since 1626 * 0.001 is not 1.626.
    return _checked_seconds(round(sum(float(number) * _SECONDS[unit] for number, unit in parts), 9), text)


def _checked_seconds(seconds: float, value: object) -> float:
    # Compared before float(): a whole number of hundreds of digits does not fit into one. NaN fails too.
    if not 0 <= seconds <= _LONGEST_S:
        raise _duration_refusal(value)
    return float(seconds)


def _duration_refusal(value: object) -> DurationSyntaxError:
    message = f"{_shown(value)} is not a duration; write {DURATION_FORMS}"
    return DurationSyntaxError(message, text=value if isinstance(value, str) else _shown(value))


def format_duration(seconds: float) -> str:
    """Write seconds for people: ``"250 ms"``, ``"4.2 s"``, ``"2 min 5 s"``, ``"3 h 7 min"``."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
