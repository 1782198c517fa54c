"""Starts threads and joins them."""

import threading

TRUTH = {"leaks": False}


def iteration(number: int) -> None:
    """Work in three threads."""
    threads = [threading.Thread(target=sum, args=(range(2_000),)) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
