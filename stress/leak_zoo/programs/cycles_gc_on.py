"""Makes cycles, and the collector takes them away."""

TRUTH = {"leaks": False}


class Node:
    """Refers to itself."""

    def __init__(self, number: int) -> None:
        self.me = self
        self.payload = [number + place for place in range(300, 375)]


def iteration(number: int) -> None:
    """Make some cycles and drop them."""
    for _ in range(3):
        Node(number)
