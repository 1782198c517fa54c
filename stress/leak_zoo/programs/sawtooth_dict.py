"""A buffer that is written out whenever it has thirty entries."""

TRUTH = {"leaks": False}
BUFFER: dict[int, bytes] = {}


def iteration(number: int) -> None:
    """Buffer a row, flush a full buffer."""
    BUFFER[number] = bytes([number % 251]) * 4_000
    if len(BUFFER) >= 30:
        BUFFER.clear()
