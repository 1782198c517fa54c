"""Leaks into an array that is replaced by a longer one each time."""

import numpy as np

TRUTH = {"leaks": True, "kind": "array", "bytes": 8_000, "names": ["losses", "STATE", "ndarray"]}


class State:
    """Remembers all losses."""

    losses = np.zeros(0)


STATE = State()


def iteration(number: int) -> None:
    """Append a thousand losses."""
    STATE.losses = np.append(STATE.losses, np.full(1000, float(number)))
