"""Leaks numbers into an array of the standard library."""

import array

TRUTH = {"leaks": True, "kind": ["python", "array"], "bytes": 1_600, "names": ["TIMES", "array"]}

TIMES = array.array("d")


def iteration(number: int) -> None:
    """Note two hundred times."""
    TIMES.extend(float(each) for each in range(200))
