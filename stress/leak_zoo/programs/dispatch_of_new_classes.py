"""Leaks a class an iteration by registering a function for it."""

import functools

TRUTH = {"leaks": True, "kind": "python", "bytes": 2_000, "names": ["registry", "tell", "type"]}


@functools.singledispatch
def tell(thing: object) -> str:
    """Say what it is."""
    return "thing"


def iteration(number: int) -> None:
    """Make a class and say how to tell it."""
    kind = type(f"Kind{number}", (), {})
    tell.register(kind, lambda thing: "kind")
    tell(kind())
