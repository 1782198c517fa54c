"""Leaks an array of one mebibyte an iteration into the history of an object."""

import numpy as np

TRUTH = {"leaks": True, "kind": "array", "bytes": 1_048_576, "names": ["history", "ndarray"]}


class Trainer:
    """Keeps every prediction."""

    def __init__(self) -> None:
        self.history: list[np.ndarray] = []

    def step(self, number: int) -> None:
        """Predict."""
        self.history.append(np.full(1 << 17, float(number)))


TRAINER = Trainer()


def iteration(number: int) -> None:
    """Train one step."""
    TRAINER.step(number)
