"""Leaks nothing: a cache of a hundred and fifty answers that evicts its oldest."""

TRUTH = {"leaks": False}

ANSWERS: dict[int, bytes] = {}


def _remember(number: int, answer: bytes) -> None:
    ANSWERS[number] = answer
    if len(ANSWERS) > 150:
        del ANSWERS[next(iter(ANSWERS))]


def iteration(number: int) -> None:
    """Answer."""
    _remember(number, bytes([number % 251]) * 3000)
