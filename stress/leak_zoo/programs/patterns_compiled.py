"""Compiles ever new patterns; the module re keeps 512 of them at most."""

import re

TRUTH = {"leaks": False}


def iteration(number: int) -> None:
    """Search for something new."""
    re.search(f"a{number}(b|c)+[d-f]{{2,{number + 2}}}", "a1bbdd")
