"""A ring of a hundred slots, made beforehand, is filled slot by slot."""

TRUTH = {"leaks": False}
RING: list[bytes | None] = [None] * 100


def iteration(number: int) -> None:
    """Fill the next slot."""
    RING[number % 100] = bytes([number % 251]) * 8_000
