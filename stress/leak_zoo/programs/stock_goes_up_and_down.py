"""A stock between nothing and two hundred that goes up and down at random."""

import random

TRUTH = {"leaks": False}
CHANCE = random.Random(9)
STOCK: list[bytes] = [bytes(3_000) for _ in range(100)]


def iteration(number: int) -> None:
    """Sell or buy some."""
    for _ in range(3):
        if CHANCE.random() < 0.5 and len(STOCK) < 200:
            STOCK.append(bytes([number % 250 + 1]) * 3_000)
        elif STOCK:
            STOCK.pop()
