"""A pool grows to 24 buffers, one at a time, and then serves everybody."""

TRUTH = {"leaks": False}
POOL: list[bytearray] = []


def iteration(number: int) -> None:
    """Take the buffer in turn, make it if it is the first time."""
    place = number % 24
    if place >= len(POOL):
        POOL.append(bytearray(100_000))
    POOL[place][0] = number % 256
