"""Waking whoever waits for memory, across processes: one datagram, nothing polled and nothing left in a file system.

A waiter listens on a socket in the kernel's abstract name space, which goes with its process. Anybody on the machine
could send to it; a waker's word is no more than a reason to look into the ledger.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from types import TracebackType
from typing import Final, Self

__all__ = ["Doorbell", "ring"]

_WORD: Final = b"!"


def _address(lease_id: str) -> str:
    return f"\0memguard/{os.getuid()}/{lease_id}"


class Doorbell:
    """Where one lease is rung for; made before the lease is written down, so that no ring is missed.

    Raises:
        OSError: if no socket can be had.
    """

    def __init__(self, lease_id: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.bind(_address(lease_id))
        except OSError:
            self._socket.close()
            raise

    def wait(self, timeout_s: float | None, also: tuple[int, ...] = ()) -> bool:
        """Wait for a ring, or until one of the descriptors ``also`` is readable; returns whether either came."""
        poller = select.poll()
        for descriptor in (self._socket.fileno(), *also):
            poller.register(descriptor, select.POLLIN)
        came = bool(poller.poll(None if timeout_s is None else max(0.0, timeout_s * 1000)))
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(len(_WORD))
        return came

    def close(self) -> None:
        """Stop listening; once or many times."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def ring(lease_id: str) -> bool:
    """Wake the waiter of a lease; False if nobody listens for it, or it cannot be rung for: then it looks by itself."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.sendto(_WORD, _address(lease_id))
    except BlockingIOError:  # it was rung already, and has not looked yet
        return True
    except OSError:  # nobody is there, or there is no descriptor left for it
        return False
    return True
