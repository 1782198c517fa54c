"""Leaks a pair of sockets an iteration."""

import socket

TRUTH = {"leaks": True, "kind": "fd", "bytes": 0, "names": ["PAIRS", "socket"]}
PAIRS: list[tuple[socket.socket, socket.socket]] = []


def iteration(number: int) -> None:
    """Connect and never close."""
    PAIRS.append(socket.socketpair())
