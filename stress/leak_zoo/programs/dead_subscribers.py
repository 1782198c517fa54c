"""Leaks weak references whose objects are gone: nobody takes them out of the list."""

import weakref

TRUTH = {"leaks": True, "kind": "python", "bytes": 700, "names": ["SUBSCRIBERS", "ReferenceType", "weakref"]}

SUBSCRIBERS: list[weakref.ref[object]] = []


class Subscriber:
    """Lives for an iteration."""


def iteration(number: int) -> None:
    """Subscribe ten and forget them."""
    some = [Subscriber() for _ in range(10)]
    SUBSCRIBERS.extend(weakref.ref(each) for each in some)
