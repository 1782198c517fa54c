"""A lease that follows its job, on a real ledger: by parts, by use, from several threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from memguard.config import Settings, load_settings
from memguard.forecasting.phases import PhasePlan
from memguard.leasing import leased
from memguard.ledger.book import LedgerBook, Wish
from memguard.ledger.place import ledger_folder
from memguard.ledger.room import room_for
from memguard.tenure import Tenure
from memguard.units import MIB

PEAKS = {"small": 100 * MIB, "big": 600 * MIB, "end": 50 * MIB}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"capacity": "1GiB", "runtime_dir": str(tmp_path)})


@pytest.fixture
def book(settings: Settings) -> Iterator[LedgerBook]:
    made = LedgerBook(ledger_folder(settings.runtime_dir), lambda: room_for(settings))
    yield made
    made.close()


@pytest.fixture
def tenure(settings: Settings) -> Iterator[Tenure]:
    """A lease of 600 MiB, for a cache: so nobody is started who watches."""
    with leased(settings, Wish("job", "job", 600 * MIB, 0, ""), limit_bytes=700 * MIB, is_pool=True) as made:
        yield made


def promised(book: LedgerBook) -> int:
    """What the ledger has written down."""
    return sum(each.reserved_bytes for each in book.leases())


def test_parts_before_the_peak_keep_it_and_those_behind_give_it_back(
    tenure: Tenure, book: LedgerBook
) -> None:
    """Each change is told with what was before; the ledger has what the tenure says."""
    told: list[tuple[int, int, str]] = []
    tenure.plan(PhasePlan(PEAKS).needed, lambda *change: told.append(change))
    for phase in PEAKS:
        tenure.enter(phase)
        assert promised(book) == tenure.reserved_bytes
    assert told == [(50 * MIB, 600 * MIB, "end")]


def test_use_above_a_forecast_is_reserved_as_it_comes_and_given_back_as_it_goes(
    tenure: Tenure, book: LedgerBook
) -> None:
    """A part that needs more than forecast grows by what it uses; the lease never falls below use."""
    tenure.plan(PhasePlan(PEAKS).needed, lambda *_: None)
    tenure.enter("end")
    for used in (40, 60, 120, 300):
        tenure.follow(used * MIB)
        assert promised(book) == tenure.reserved_bytes >= used * MIB
    tenure.enter("end")  # it goes round: all of it counts
    assert promised(book) == 600 * MIB


def test_without_a_plan_nothing_is_given_back(tenure: Tenure, book: LedgerBook) -> None:
    """Who tells no parts, or unknown ones, keeps what he has."""
    tenure.enter("big")
    tenure.follow(10 * MIB)
    tenure.plan(PhasePlan(PEAKS).needed, lambda *_: None)
    tenure.enter("something else")
    assert promised(book) == 600 * MIB


def test_threads_that_follow_and_enter_at_once_leave_the_books_right(
    tenure: Tenure, book: LedgerBook
) -> None:
    """Whoever comes second leaves it to the first; the ledger and the tenure agree afterwards."""
    tenure.plan(PhasePlan(PEAKS).needed, lambda *_: None)
    start = threading.Barrier(4)

    def play(number: int) -> None:
        start.wait()
        for step in range(20):
            tenure.follow((step * 7 + number) % 90 * MIB)
            tenure.enter(list(PEAKS)[(step + number) % 3])

    threads = [threading.Thread(target=play, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    tenure.enter("big")
    assert tenure.degraded == ""
    assert promised(book) == tenure.reserved_bytes == 600 * MIB
