"""A queue whose length wanders at random about 300."""

import random

TRUTH = {"leaks": False}
CHANCE = random.Random(3)
QUEUE: list[bytes] = [bytes([place % 251]) * 2_000 for place in range(300)]


def iteration(number: int) -> None:
    """Some come and some go; a long queue is served faster."""
    if CHANCE.random() * 600 < len(QUEUE):
        QUEUE.pop()
    else:
        QUEUE.append(bytes([number % 251]) * 2_000)
