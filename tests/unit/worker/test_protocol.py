"""Channels: whole messages with their descriptors, a closed peer is no error, nobody waits who must not."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from memguard.worker.protocol import Channel, above_streams, channel_pair


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
        {"none": None, "n": [1.5]},
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
    message, (its_reader, its_writer) = received
    assert message == {"kind": "pipe"}
    os.write(its_writer, b"through")
    assert os.read(its_reader, 10) == b"through"
    assert not os.get_inheritable(its_reader)
    assert not os.get_inheritable(its_writer)
    assert right.receive() == ({"kind": "bare"}, [])
    for each in (its_reader, its_writer):
        os.close(each)


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
            left.send({"number": number})

    sender = threading.Thread(target=send_all)
    sender.start()
    received = [right.receive() for _ in range(2000)]
    sender.join()
    assert [each[0]["number"] for each in received if each is not None] == list(range(2000))


def test_many_threads_may_send(pair: tuple[Channel, Channel]) -> None:
    """Messages of several threads are not mixed up."""
    left, right = pair
    threads = [
        threading.Thread(target=lambda name=name: [left.send({"name": name, "n": n}) for n in range(100)])
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
        pair[0].send({"text": "x" * 70_000})


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
