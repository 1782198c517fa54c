"""Leaks nothing: a pool of four threads an iteration, which is shut down."""

from concurrent.futures import ThreadPoolExecutor

TRUTH = {"leaks": False}


def iteration(number: int) -> None:
    """Copy some buffers in threads."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(bytearray, range(1000, 9000, 500)))
