"""Leaks a chain of exceptions: each is raised from the one before."""

TRUTH = {"leaks": True, "kind": "python", "bytes": 3_500, "names": ["LAST", "Error", "bytes", "frame"]}
LAST: dict[str, Exception | None] = {"error": None}


def fail(number: int) -> None:
    """Fail with data in hand."""
    data = bytes([number % 251]) * 3_000
    raise RuntimeError(len(data)) from LAST["error"]


def iteration(number: int) -> None:
    """Remember the last failure."""
    try:
        fail(number)
    except RuntimeError as error:
        LAST["error"] = error
