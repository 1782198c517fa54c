"""Cycles with large buffers, which the collector takes when it comes by."""

TRUTH = {"leaks": False}


class Graph:
    """Refers to itself and holds a buffer."""

    def __init__(self, number: int) -> None:
        self.me = self
        self.buffer = bytearray(200_000)
        self.buffer[0] = number % 256


def iteration(number: int) -> None:
    """Make a graph and drop it."""
    Graph(number)
