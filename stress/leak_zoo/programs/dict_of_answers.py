"""Leaks a dict entry with a list of numbers for each request."""

TRUTH = {"leaks": True, "kind": "python", "bytes": 8000, "names": ["ANSWERS"]}
ANSWERS: dict[str, list[float]] = {}


def iteration(number: int) -> None:
    """Answer a request that never comes again."""
    ANSWERS[f"request {number}"] = [number + place / 7 for place in range(250)]
