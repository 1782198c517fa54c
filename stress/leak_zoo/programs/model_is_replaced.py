"""The newest model is kept and the one before is dropped; sizes differ."""

import random

TRUTH = {"leaks": False}
CHANCE = random.Random(5)
BEST: dict[str, list[float]] = {}


def iteration(number: int) -> None:
    """Train a model of its own size."""
    BEST["model"] = [float(number)] * CHANCE.randrange(10_000, 200_000)
