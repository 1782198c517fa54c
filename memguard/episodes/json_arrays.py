"""A JSON array of any length, a value at a time.

Comes in: a file. Goes out: values with their texts. The standard library reads an array as a whole; what is held here
is a chunk, and one value.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final

__all__ = ["items_of"]

_CHUNK: Final = 1 << 20
# What tells that a number has ended, so that it does not go on with what is read next.
_BEHIND: Final = frozenset(",] \t\r\n")


def items_of(file: BinaryIO, *, longest: int) -> Iterator[tuple[Any, str]]:
    """Give what is in an array of JSON, with its text, reading on as it is needed.

    Args:
        file: at its beginning.
        longest: value that is read, in characters.

    Raises:
        ValueError: where it is none.
    """
    pending, decode = _Pending(file, longest), json.JSONDecoder().raw_decode
    pending.take("[")
    if pending.peek() == "]":
        return
    while True:
        pending.peek()
        item, text = pending.decoded(decode)
        yield item, text
        if pending.take(",]") == "]":
            break
    if pending.peek():
        raise ValueError("there is more behind the array")


class _Pending:
    """What was read of a file of JSON and not given yet."""

    def __init__(self, file: BinaryIO, longest: int) -> None:
        self._file, self._longest = file, longest
        self._text, self._at = "", 0
        # A byte that is no UTF-8 is named with the value that it is in, as no character.
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode
        self._is_over = False

    def _read(self, most: int) -> bool:
        if self._is_over:
            return False
        chunk = self._file.read(most)
        self._is_over = not chunk
        self._text, self._at = self._text[self._at :] + self._decode(chunk, not chunk), 0
        return True

    def peek(self) -> str:
        """Return the next character that is no space; ``""`` at the end."""
        while True:
            while self._at < len(self._text):
                if not self._text[self._at].isspace():
                    return self._text[self._at]
                self._at += 1
            if not self._read(_CHUNK):
                return ""

    def take(self, wanted: str) -> str:
        """Return the next character, one of those wanted."""
        found = self.peek()
        if not found or found not in wanted:
            raise ValueError(f"expected one of {' '.join(wanted)}, not {found or 'the end'}")
        self._at += 1
        return found

    def decoded(self, decode: Callable[[str, int], tuple[Any, int]]) -> tuple[Any, str]:
        """Return the next value with its text. What is read on is doubled, so that a long one is not tried often."""
        while True:
            try:
                item, end = decode(self._text, self._at)
                if self._is_over or not isinstance(item, int | float) or self._text[end : end + 1] in _BEHIND:
                    text, self._at = self._text[self._at : end], end
                    return item, text
            except ValueError:
                if self._is_over or len(self._text) - self._at > self._longest:
                    raise
            self._read(max(_CHUNK, len(self._text) - self._at))
