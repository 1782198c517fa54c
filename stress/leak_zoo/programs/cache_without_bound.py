"""Leaks through functools.cache: arguments never repeat."""

import functools

TRUTH = {"leaks": True, "kind": "cache", "bytes": 5200, "names": ["render"]}


@functools.cache
def render(number: int) -> str:
    """Make a text of about 5 KB."""
    return f"<{number}>" * (5000 // len(f"<{number}>"))


def iteration(number: int) -> None:
    """Render a page nobody asks for again."""
    render(number)
