"""Registers results weakly; only the newest ten live."""

import weakref
from collections import deque

TRUTH = {"leaks": False}


class Result:
    """Can be referred to weakly."""

    def __init__(self, number: int) -> None:
        self.data = bytes([number % 251]) * 5_000


ALL: "weakref.WeakValueDictionary[int, Result]" = weakref.WeakValueDictionary()
NEWEST: deque[Result] = deque(maxlen=10)


def iteration(number: int) -> None:
    """Register a result."""
    result = Result(number)
    ALL[number] = result
    NEWEST.append(result)
