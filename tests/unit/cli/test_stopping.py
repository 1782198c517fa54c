"""Signals that ask a command to end do what Ctrl-C does, inside the block and nowhere else."""

from __future__ import annotations

import signal

import pytest

from memguard.cli.exits import status_of_error
from memguard.cli.stopping import StoppedBySignal, stopped_by_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_block_as_ctrl_c_does(number: signal.Signals) -> None:
    """Whoever handles a Ctrl-C handles it; its status is the signal's, and the signal has its effect back afterwards."""
    with pytest.raises(KeyboardInterrupt) as caught, stopped_by_signals():
        signal.raise_signal(number)
    assert isinstance(caught.value, StoppedBySignal)
    assert str(caught.value) == f"stopped by {number.name}"
    assert status_of_error(caught.value) == 128 + number
    assert signal.getsignal(number) is signal.SIG_DFL


def test_what_is_ignored_stays_so() -> None:
    """Who started it with nohup wants it to outlive the terminal."""
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopped_by_signals():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, former)
