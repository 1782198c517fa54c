"""How caller, template, keeper and job talk: small JSON messages with descriptors, one packet each.

SOCK_SEQPACKET keeps message boundaries and carries descriptors beside the message; everything large travels in a
segment (`memguard.worker.buffers`) whose descriptor is sent. A closed peer reads as ``None``.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import select
import socket
import termios
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, TypeVar, cast

from memguard.host.descriptors import Descriptors

__all__ = [
    "Channel",
    "GarbledMessageError",
    "Message",
    "above_streams",
    "channel_pair",
    "leading_that_fit",
    "open_above_streams",
]

T = TypeVar("T")

Message = Mapping[str, Any]
_Packet = tuple[bytes, list[tuple[int, int, bytes]], int, Any]

# Larger than any message we send; a packet that does not fit would be cut, so the size is checked on sending. What is
# long because people named files or wrote texts is shortened before, see `leading_that_fit`.
_LARGEST_MESSAGE: Final = 64 * 1024
_MOST_DESCRIPTORS: Final = 8
_RIGHTS_BYTES: Final = socket.CMSG_LEN(_MOST_DESCRIPTORS * array.array("i").itemsize)
_LAST_STREAM: Final = 2


class GarbledMessageError(ValueError):
    """What came through a channel is no message; the next one may be."""


class Channel:
    """One end of a connection. Sending is thread-safe, also from a signal handler; one thread at a time receives.

    Owns its socket: `close` it, or use it as a context manager.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        # Reentrant, for a signal handler that interrupts a sending thread may send, or close, as well.
        self._lock = threading.RLock()

    def fileno(self) -> int:
        """Return the descriptor to poll on."""
        return self._socket.fileno()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> bool:
        """Send a message, waiting while the peer's queue is full.

        Returns:
            False if the peer is gone.
        """
        return self._send(message, descriptors, 0)

    def send_nowait(self, message: Message, descriptors: Sequence[int] = ()) -> bool:
        """Send a message that may be dropped: returns False if the queue is full or the peer is gone."""
        return self._send(message, descriptors, socket.MSG_DONTWAIT)

    def _send(self, message: Message, descriptors: Sequence[int], flags: int) -> bool:
        data = _encode(message)
        if len(data) > _LARGEST_MESSAGE:
            raise ValueError(f"a message of {len(data)} bytes is too large; send it as a segment")
        with self._lock:
            if self._socket.fileno() < 0:  # this end was closed, by another thread perhaps
                return False
            try:
                _send_packet(self._socket, data, descriptors, flags | socket.MSG_NOSIGNAL)
            except (BrokenPipeError, ConnectionResetError, ConnectionRefusedError, BlockingIOError):
                return False
            except OSError:
                if self._socket.fileno() < 0:  # closed by a signal handler meanwhile
                    return False
                raise
        return True

    def receive(self) -> tuple[Message, Descriptors] | None:
        """Wait for a message.

        Returns:
            The message and the descriptors it brought, or ``None`` once the peer is gone.

        Raises:
            GarbledMessageError: if the peer sent something else; its descriptors are closed.
        """
        try:
            data, descriptors = _receive_packet(self._socket)
        except ConnectionResetError:
            return None
        except OSError:
            if self._socket.fileno() < 0:  # this end was closed by another thread or a signal handler
                return None
            raise
        if not data and _is_over(self._socket):
            return None
        return _decode(data), descriptors

    def close(self) -> None:
        """Close this end; once or many times. The peer notices when no forked copy of it is open either."""
        with self._lock:
            self._socket.close()

    def hang_up(self) -> None:
        """Close the connection itself: the peer notices at once, whoever else holds a copy of this end.

        So does a thread that waits here to send or to receive.
        """
        if self._socket.fileno() < 0:
            return
        # Before the lock: who waits for a slow peer has it.
        with contextlib.suppress(OSError):  # the peer was faster, or it is closed
            self._socket.shutdown(socket.SHUT_RDWR)
        self.close()

    def abandon(self) -> None:
        """Close a forked copy of this end; takes no lock, for whoever held it does not exist in this process."""
        self._socket.close()

    def detach(self) -> int:
        """Give the descriptor away; the channel owns nothing afterwards."""
        return self._socket.detach()

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def adopt(cls, descriptor: int) -> Channel:
        """Make a channel of a descriptor that was received or inherited."""
        return cls(socket.socket(fileno=descriptor))


def _encode(message: object) -> bytes:
    # Neither escapes, which blow up other scripts than Latin, nor a refusal of paths that are not UTF-8.
    return json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _decode(data: bytes) -> Message:
    try:
        message = json.loads(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise GarbledMessageError(f"{len(data)} bytes are no message: {error}") from error
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise GarbledMessageError("a message without a kind")
    return message


def leading_that_fit(items: Iterable[T], most_bytes: int) -> list[T]:
    """Return as many of the first items as take no more room in a message than ``most_bytes``."""
    items = list(items)
    sizes = accumulate(len(_encode(each)) + len(", ") for each in items)
    return [each for each, size in zip(items, sizes, strict=True) if size <= most_bytes]


def _is_over(connection: socket.socket) -> bool:
    """Whether nothing can come any more, for an empty packet reads like the end."""
    poll, waiting = select.poll(), array.array("i", [0])
    try:
        poll.register(connection, 0)
        fcntl.ioctl(connection, termios.FIONREAD, waiting)
    except (OSError, ValueError):  # this end was closed by another thread
        return True
    return bool(poll.poll(0)) and waiting[0] == 0


# Not socket.send_fds and socket.recv_fds: Python 3.11's take flags and do not use them.
def _send_packet(connection: socket.socket, data: bytes, descriptors: Sequence[int], flags: int) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    connection.sendmsg([data], rights, flags)


def _receive_packet(connection: socket.socket) -> tuple[bytes, Descriptors]:
    received = _Received()
    # One step: as soon as there are descriptors, they have an owner, and Ctrl-C comes before or after it.
    call = map(connection.recvmsg, [_LARGEST_MESSAGE], [_RIGHTS_BYTES], [socket.MSG_CMSG_CLOEXEC])
    received.extend(call)  # type: ignore[arg-type]  # until `sort_out`
    return received.sort_out(), received


class _Received(Descriptors):
    """The descriptors that came with a packet; at first they are inside what `recvmsg` returned."""

    __slots__ = ()

    def sort_out(self) -> bytes:
        """Put the numbers in the place of the packet that holds them; returns its data."""
        data, numbers = _contents(cast("_Packet", self[0]))
        self[:] = numbers
        return data

    def close(self) -> None:
        """Close them wherever they are."""
        if any(not isinstance(each, int) for each in cast("list[object]", self)):
            self.sort_out()
        super().close()


def _contents(packet: _Packet) -> tuple[bytes, array.array[int]]:
    numbers = array.array("i")
    data, rights, _, _ = packet
    for level, kind, content in rights:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
    return data, numbers


def channel_pair() -> tuple[Channel, Channel]:
    """Return two connected ends."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(_above_streams(left)), Channel(_above_streams(right))


def above_streams(descriptor: int) -> int:
    """Move a descriptor out of the numbers of standard streams, which a daemon may have closed.

    Else somebody who prints would write to it, and a job would be given it as its output.
    """
    if descriptor > _LAST_STREAM:
        return descriptor
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _LAST_STREAM + 1)
    finally:
        os.close(descriptor)


def open_above_streams(opener: Callable[..., int], *args: Any) -> Descriptors:
    """Call what opens a descriptor, and move that out of the numbers of standard streams."""
    opened = Descriptors(map(opener, *([each] for each in args)))
    if opened.fileno() <= _LAST_STREAM:
        opened.extend(map(fcntl.fcntl, [opened[0]], [fcntl.F_DUPFD_CLOEXEC], [_LAST_STREAM + 1]))
        next(map(os.close, map(list.pop, [opened], [0])))
    return opened


def _above_streams(connection: socket.socket) -> socket.socket:
    if connection.fileno() > _LAST_STREAM:
        return connection
    return socket.socket(fileno=above_streams(connection.detach()))
