"""Leaks frames: exceptions are kept, and with each its traceback, and with that the locals."""

TRUTH = {"leaks": True, "kind": "python", "bytes": 25_000, "names": ["FAILURES", "Error", "bytearray"]}
FAILURES: list[Exception] = []


def parse(number: int) -> None:
    """Fail with a buffer in hand."""
    buffer = bytearray(24_000)
    buffer[0] = number % 256
    raise ValueError(number)


def iteration(number: int) -> None:
    """Note a failure for later."""
    try:
        parse(number)
    except ValueError as failure:
        FAILURES.append(failure)
