"""Counts words out of 64: new ones become rarer and rarer."""

import random
from collections import Counter

TRUTH = {"leaks": False}
CHANCE = random.Random(7)
WORDS: Counter[str] = Counter()


def iteration(number: int) -> None:
    """Count four words."""
    for _ in range(4):
        WORDS[f"word {CHANCE.randrange(64)}" + "x" * 200] += 1
