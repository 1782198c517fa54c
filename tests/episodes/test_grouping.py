"""Adds of many threads under one commit: who is waited for, and who is woken."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from memguard.episodes import Episode
from memguard.episodes.grouping import Group, Share
from memguard.episodes.preparing import Prepared, prepare


def _batch(text: str) -> list[Prepared]:
    return prepare([Episode(text=text)], max_text_bytes=100)


def _written(shares: Sequence[Share]) -> None:
    for share in shares:
        share.ids = [each.id for each in share.batch]


def test_those_who_were_written_for_are_waited_for() -> None:
    """A caller that leads lets those come again who were there last time, and one commit does for all of them."""
    group, commits = Group(), list[int]()
    group._expected, group._gap_s, group._ended_s = 3, 5.0, time.monotonic()

    def write(shares: Sequence[Share]) -> None:
        commits.append(len(shares))
        _written(shares)

    threads = [threading.Thread(target=group.add, args=(_batch(str(at)), write)) for at in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert commits == [3]
    assert group._expected == 3


def test_a_caller_alone_waits_for_nobody() -> None:
    """Who adds alone never waits for others, however often he adds."""
    group = Group()
    for at in range(3):
        group.add(_batch(str(at)), _written)
        assert group._expected == 1
        group._gap_s = 30.0


def test_who_went_away_keeps_nobody_from_being_woken() -> None:
    """Of three that were written for the first wakes the third, where the second was interrupted before."""
    group, (first, gone, last) = Group(), [Share(_batch(name)) for name in "abc"]
    for each in (first, gone, last):
        each.ids = ["x"]
    group._leave(gone)
    group._wake([first, gone, last])
    first.wait()
    group._leave(first)
    last.wait()


def test_who_goes_away_after_it_was_linked_wakes_the_next() -> None:
    """An interrupt of the second between the commit and its own turn wakes the third all the same."""
    group, (first, gone, last) = Group(), [Share(_batch(name)) for name in "abc"]
    for each in (first, gone, last):
        each.ids = ["x"]
    group._wake([first, gone, last])
    group._leave(gone)
    last.wait()


def test_every_thread_gets_its_own_ids_again_and_again() -> None:
    """With many threads that add again at once each add returns its own id, and all are woken."""
    group, wrong = Group(), list[str]()

    def adds(name: str) -> None:
        for at in range(30):
            batch = _batch(f"{name} {at}")
            if group.add(batch, _written) != [batch[0].id]:
                wrong.append(name)

    threads = [threading.Thread(target=adds, args=(str(at),)) for at in range(16)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert not any(each.is_alive() for each in threads)
    assert wrong == []
    assert not group._waiting
