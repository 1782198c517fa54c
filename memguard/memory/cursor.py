"""Walks data part by part, in order: each row is handed out, and comes back only if its part failed.

Comes in: data that can be cut, or an iterator of chunks. Goes out: parts of it with the rows that they are. It knows
sizes as a number it is given, and nothing of memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from memguard.memory.rows import can_be_cut, cut, row_count

__all__ = ["Cursor", "Span"]


@dataclass(frozen=True, slots=True)
class Span:
    """Rows ``start`` to ``stop`` (exclusive), counted from the first row of all."""

    start: int
    stop: int

    @property
    def rows(self) -> int:
        """How many; 1 for a chunk without a length."""
        return self.stop - self.start


class Cursor:
    """Where in the data the work is.

    A chunk is let go of before the next one is asked for.
    """

    def __init__(self, data: Any) -> None:
        self._chunks: Iterator[Any] | None = None
        self._chunk: Any = None
        self._first, self._next_first = 0, 0
        self._is_cuttable = True
        # What is left of the chunk at hand, the next rows last.
        self._left: list[Span] = []
        if hasattr(data, "__len__"):
            self._take_up(data)
        else:
            self._chunks = iter(data)

    def _take_up(self, chunk: Any) -> None:
        rows = row_count(chunk)
        self._chunk, self._first, self._next_first = chunk, self._next_first, self._next_first + rows
        if rows or self._chunks is not None:  # an empty chunk is a chunk, empty data has no batches
            self._left = [Span(self._first, self._next_first)]
        self._is_cuttable = self._chunks is None or can_be_cut(chunk)

    @property
    def chunk(self) -> Any:
        """The chunk at hand, all of the data where there are no chunks."""
        return self._chunk

    def advance(self) -> bool:
        """Go to the next rows, to the next chunk if need be; ``False`` at the end."""
        if self._left:
            return True
        self._chunk = None
        if self._chunks is not None:
            for chunk in self._chunks:
                self._take_up(chunk)
                return True
        return False

    @property
    def has_all(self) -> bool:
        """Whether the chunk at hand is all of the data."""
        return self._chunks is None

    @property
    def is_at_end(self) -> bool:
        """Whether nothing is left for sure; nobody knows whether another chunk comes."""
        return not self._left and self._chunks is None

    def take(self, rows: int) -> Span:
        """Take the next rows, at most so many where the data can be cut."""
        span = self._left.pop()
        if not self._is_cuttable or span.rows <= rows:
            return span
        self._left.append(Span(span.start + rows, span.stop))
        return Span(span.start, span.start + rows)

    def content(self, span: Span) -> Any:
        """Return the rows of a span of the chunk at hand; the chunk itself where that is all of it."""
        if self._chunks is not None and span.rows == self._next_first - self._first:
            return self._chunk
        return cut(self._chunk, span.start - self._first, span.stop - self._first)

    def give_away(self, span: Span) -> Any:
        """Return the rows of a span that will not be asked for again, and let go of the chunk with its last rows."""
        content = self.content(span)
        self.let_go()
        return content

    def let_go(self) -> None:
        """Let go of the chunk if nothing of it is left."""
        if not self._left:
            self._chunk = None

    def split(self, span: Span) -> bool:
        """Put the rows of a failed span back, to be taken in halves; ``False`` where they cannot be cut."""
        if not self._is_cuttable or span.rows < 2:
            return False
        middle = span.start + span.rows // 2
        self._left += [Span(middle, span.stop), Span(span.start, middle)]
        return True
