"""Waiting for the ledger's lock: soon there where few want it, and sparing with the processor where many do."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import apsw
import pytest

from memguard.ledger.patience import Patience, pause_s


def test_who_waits_for_long_looks_seldom() -> None:
    """The first looks follow each other soon; in the first second there are a hundred at most, and fifty in any later."""
    pauses = [pause_s(tries) for tries in range(1000)]
    assert pauses[0] < 0.001
    assert pauses == sorted(pauses)
    assert sum(total < 1.0 for total in itertools.accumulate(pauses)) < 100
    assert pauses[-1] == pytest.approx(0.02)


def test_patience_ends(tmp_path: Path) -> None:
    """Who waits in vain is told so when his patience is over, and not sooner."""
    path = str(tmp_path / "file")
    holder, waiting = apsw.Connection(path), apsw.Connection(path)
    waiting.set_busy_handler(Patience(0.1))
    try:
        holder.execute("BEGIN IMMEDIATE")
        began_s = time.monotonic()
        with pytest.raises(apsw.BusyError):
            waiting.execute("BEGIN IMMEDIATE")
        assert time.monotonic() - began_s >= 0.1
    finally:
        holder.close()
        waiting.close()
