"""Leaks pollers of the kernel, a descriptor each."""

import select

TRUTH = {"leaks": True, "kind": "fd", "bytes": 0, "names": ["POLLERS", "epoll"]}

POLLERS: list[select.epoll] = []


def iteration(number: int) -> None:
    """Wait for nothing with a new poller."""
    poller = select.epoll()
    poller.poll(0)
    POLLERS.append(poller)
