"""Blocks of random sizes live for random times; how many live is bounded."""

import random

TRUTH = {"leaks": False}
CHANCE = random.Random(2)
LIVING: list[bytes] = [b""] * 400


def setup() -> None:
    """Begin with all places taken."""
    for place in range(len(LIVING)):
        LIVING[place] = bytes(CHANCE.randrange(100, 20_000))


def iteration(number: int) -> None:
    """Replace fifty by others."""
    for _ in range(50):
        LIVING[CHANCE.randrange(len(LIVING))] = bytes(CHANCE.randrange(100, 20_000))
