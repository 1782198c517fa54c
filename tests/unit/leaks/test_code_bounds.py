"""What the text of a program says about its containers."""

from __future__ import annotations

from typing import Any

import pytest

from memguard.leaks.code_bounds import CodeBound, bounds_in

LEAST = {"MOST": 64}


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("def f(x):\n    KEPT[x] = 1\n    if len(KEPT) > 80:\n        KEPT.popitem(last=False)", 80),
        ("def f(x):\n    if len(KEPT) < MOST:\n        KEPT.append(x)", 64),
        ("def f(x):\n    KEPT.append(x)\n    if x % 70 == 0:\n        KEPT.clear()", None),
        ("def f(x):\n    global KEPT\n    KEPT.append(x)\n    if x % 70 == 0:\n        KEPT = []", None),
        ("def f(x):\n    KEPT.append(x)\n    KEPT[:] = KEPT[-50:]", None),
        (
            "class A:\n    def put(self, x):\n        self.KEPT.add(x)\n        while len(self.KEPT) >= 9: self.KEPT.pop()",
            9,
        ),
    ],
)
def test_a_function_that_fills_and_bounds_is_found(text: str, bound: int | None) -> None:
    """A length that is compared, or an emptying, in the very function that fills, is a bound."""
    found = bounds_in(text, "KEPT", LEAST)
    assert found is not None
    assert found.bound == bound
    assert "line" in found.where


@pytest.mark.parametrize(
    "text",
    [
        "def f(x):\n    KEPT.append(x)",
        "def f(x):\n    KEPT.append(x)\ndef reset():\n    KEPT.clear()",
        "def f(x):\n    KEPT[x] = 1\n    KEPT.pop(x - 1, None)",
        "def f(x):\n    OTHER.append(x)\n    if len(OTHER) > 5:\n        OTHER.clear()",
        "class A:\n    def __init__(self):\n        self.KEPT = []\n        self.KEPT.append(1)",
        "def f(x:",
    ],
)
def test_what_bounds_nothing_is_no_bound(text: str) -> None:
    """Entries that another function removes, single keys, other names and broken text bound nothing."""
    found: Any = bounds_in(text, "KEPT", LEAST)
    assert found is None


def test_the_larger_of_two_lengths_is_the_bound() -> None:
    """Where a length is compared twice the higher one is what it may reach."""
    text = "def f(x):\n    KEPT.append(x)\n    if len(KEPT) > 10 or 99 < len(KEPT):\n        KEPT.clear()"
    assert bounds_in(text, "KEPT", {}) == CodeBound(99, "f, line 1")
