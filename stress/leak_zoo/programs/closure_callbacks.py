"""Leaks a callback an iteration; each closes over its own data."""

from collections.abc import Callable

TRUTH = {"leaks": True, "kind": "python", "bytes": 900, "names": ["subscribers", "function", "subscribe"]}


def make_bus() -> Callable[[Callable[[], int]], None]:
    """Return a function that subscribes to a list only it knows."""
    subscribers: list[Callable[[], int]] = []

    def subscribe(callback: Callable[[], int]) -> None:
        subscribers.append(callback)

    return subscribe


SUBSCRIBE = make_bus()


def iteration(number: int) -> None:
    """Subscribe and never unsubscribe."""
    data = [number] * 80
    SUBSCRIBE(lambda: len(data))
