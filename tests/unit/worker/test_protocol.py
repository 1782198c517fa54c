"""Channels: whole messages with their descriptors, a closed peer is no error, nobody waits who must not."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from memguard.worker.protocol import (
    Channel,
    GarbledMessageError,
    above_streams,
    channel_pair,
    leading_that_fit,
)


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    left, right = channel_pair()
    with left, right:
        yield left, right


def test_messages_arrive_whole_and_in_order(pair: tuple[Channel, Channel]) -> None:
    """Each message is one packet, whatever it holds."""
    left, right = pair
    sent: list[dict[str, Any]] = [
        {"kind": "a", "text": "ä\n" * 3000},
        {"kind": "b"},
        {"kind": "c", "none": None, "n": [1.5]},
    ]
    for message in sent:
        assert left.send(message)
    assert [right.receive() for _ in sent] == [(message, []) for message in sent]


def test_descriptors_arrive_beside_their_message(pair: tuple[Channel, Channel]) -> None:
    """The receiver gets descriptors of its own of the same files, closed on exec."""
    left, right = pair
    reader, writer = os.pipe()
    assert left.send({"kind": "pipe"}, [reader, writer])
    left.send({"kind": "bare"})
    for each in (reader, writer):
        os.close(each)
    received = right.receive()
    assert received is not None
    message, descriptors = received
    its_reader, its_writer = descriptors
    assert message == {"kind": "pipe"}
    os.write(its_writer, b"through")
    assert os.read(its_reader, 10) == b"through"
    assert not os.get_inheritable(its_reader)
    assert not os.get_inheritable(its_writer)
    assert right.receive() == ({"kind": "bare"}, [])
    descriptors.close()


def test_a_closed_peer_is_told_not_raised(pair: tuple[Channel, Channel]) -> None:
    """Sending to nobody returns False, receiving from nobody None; what was sent before still arrives."""
    left, right = pair
    left.send({"kind": "last"})
    left.close()
    left.close()
    assert right.receive() == ({"kind": "last"}, [])
    assert right.receive() is None
    assert right.send({"kind": "late"}) is False
    assert left.send({"kind": "closed myself"}) is False


def test_sending_without_waiting_drops_when_the_peer_is_slow(pair: tuple[Channel, Channel]) -> None:
    """`send_nowait` returns False once the peer's queue is full, and works again when it was read."""
    left, right = pair
    sent = 0
    while left.send_nowait({"kind": "use", "number": sent}):
        sent += 1
        assert sent < 100_000
    for number in range(sent):
        assert right.receive() == ({"kind": "use", "number": number}, [])
    assert left.send_nowait({"kind": "again"})


def test_sending_waits_for_a_slow_peer(pair: tuple[Channel, Channel]) -> None:
    """`send` loses nothing: it waits until there is room."""
    left, right = pair

    def send_all() -> None:
        for number in range(2000):
            left.send({"kind": "n", "number": number})

    sender = threading.Thread(target=send_all)
    sender.start()
    received = [right.receive() for _ in range(2000)]
    sender.join()
    assert [each[0]["number"] for each in received if each is not None] == list(range(2000))


def test_many_threads_may_send(pair: tuple[Channel, Channel]) -> None:
    """Messages of several threads are not mixed up."""
    left, right = pair
    threads = [
        threading.Thread(
            target=lambda name=name: [left.send({"kind": "n", "name": name, "n": n}) for n in range(100)]
        )
        for name in "abcd"
    ]
    for thread in threads:
        thread.start()
    received = [right.receive() for _ in range(400)]
    for thread in threads:
        thread.join()
    for name in "abcd":
        own = [each[0]["n"] for each in received if each is not None and each[0]["name"] == name]
        assert own == list(range(100))


def test_a_message_that_would_be_cut_is_refused(pair: tuple[Channel, Channel]) -> None:
    """What does not fit into one packet is an error of the sender, not a broken message."""
    with pytest.raises(ValueError, match="too large; send it as a segment"):
        pair[0].send({"kind": "a", "text": "x" * 70_000})


def test_hanging_up_reaches_the_peer_past_every_copy(pair: tuple[Channel, Channel]) -> None:
    """Closing one of two copies is not noticed; hanging up is."""
    left, right = pair
    copy = Channel.adopt(os.dup(left.fileno()))
    copy.close()
    left.send({"kind": "still there"})
    assert right.receive() == ({"kind": "still there"}, [])
    copy = Channel.adopt(os.dup(left.fileno()))
    left.hang_up()
    left.hang_up()
    assert right.receive() is None
    copy.close()


def test_a_copy_is_abandoned_without_a_word(pair: tuple[Channel, Channel]) -> None:
    """A forked copy that lets go leaves the connection as it is."""
    left, right = pair
    Channel.adopt(os.dup(left.fileno())).abandon()
    left.send({"kind": "fine"})
    assert right.receive() == ({"kind": "fine"}, [])


def test_the_numbers_of_standard_streams_are_left_free() -> None:
    """A descriptor that got a stream's number, because that was closed, is moved; others stay as they are."""
    other = os.open(os.devnull, os.O_RDONLY)
    assert above_streams(other) == other
    os.close(other)
    kept = os.dup(0)
    os.close(0)
    try:
        low = os.open("/dev/zero", os.O_RDONLY)
        assert low == 0
        moved = above_streams(low)
        assert moved > 2
        assert os.read(moved, 1) == b"\0"
        assert not os.get_inheritable(moved)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(0)
        os.close(moved)
    finally:
        os.dup2(kept, 0)
        os.close(kept)


@pytest.mark.parametrize(
    "garbage",
    [b"", b"x", b"\xff\xfe", b"5", b"[1]", b"{}", b'{"kind": 5}', b"[" * 60_000, b"x" * 100_000, b"1" * 5000],
    ids=lambda data: f"{data[:12]!r} {len(data)}",
)
def test_garbage_is_told_and_the_next_message_is_read(garbage: bytes, pair: tuple[Channel, Channel]) -> None:
    """Whatever else is written into a channel, with descriptors or without, is refused and leaves nothing open."""
    left, right = pair
    before = os.listdir("/proc/self/fd")
    with socket.socket(fileno=os.dup(left.fileno())) as raw:
        raw.send(garbage)
        socket.send_fds(raw, [garbage], [0, 1])
        for _ in range(2):
            with pytest.raises(GarbledMessageError):
                right.receive()
        left.send({"kind": "fine"})
        raw.send(garbage)
    left.close()
    assert right.receive() == ({"kind": "fine"}, [])
    if garbage:
        with pytest.raises(GarbledMessageError):
            right.receive()
    assert right.receive() is None
    assert len(os.listdir("/proc/self/fd")) == len(before) - 1


def test_any_text_crosses_without_blowing_up(pair: tuple[Channel, Channel]) -> None:
    """Other scripts take the room of their UTF-8; a path that is not UTF-8 crosses like any other text."""
    left, right = pair
    for text in ("\U0001f600" * 15_000, os.fsdecode(b"/dev/shm/\xff\xfe"), "\ud800" * 20_000):
        assert left.send({"kind": "note", "text": text})
        assert right.receive() == ({"kind": "note", "text": text}, [])


def test_what_fits_is_counted_as_it_is_sent() -> None:
    """Items are taken from the front until the next one would not fit, by their size in the message."""
    items = ["a" * 10, "\x01" * 10, "\U0001f600" * 10, "b"]
    assert leading_that_fit(items, 1000) == items
    assert leading_that_fit(items, 14 + 64) == items[:2]
    assert leading_that_fit(items, 14 + 63) == items[:1]
    assert leading_that_fit(items, 0) == []


def test_hanging_up_frees_who_waits() -> None:
    """A thread that waits for a slow peer, or for a message, goes on when the connection is hung up elsewhere."""
    for wait in (lambda end: end.receive(), lambda end: all(iter(lambda: end.send({"kind": "x"}), False))):
        left, right = channel_pair()
        waiting = threading.Event()
        thread = threading.Thread(target=lambda: (waiting.set(), wait(left)))  # noqa: B023 - ends within the round
        thread.start()
        waiting.wait()
        left.hang_up()
        thread.join()
        assert left.receive() is None
        right.close()


def test_a_signal_handler_may_use_a_channel_that_is_sending(pair: tuple[Channel, Channel]) -> None:
    """A handler that runs while the same thread waits for room sends in between, and may hang up."""
    left, right = pair
    while left.send_nowait({"kind": "fill"}):
        pass

    def handle(*_: object) -> None:
        assert not left.send_nowait({"kind": "no room"})
        left.hang_up()

    former = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert not left.send({"kind": "waits"})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert right.receive() == ({"kind": "fill"}, [])
