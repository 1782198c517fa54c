"""When nothing is given out, though it seem free."""

from __future__ import annotations

import pytest

from memguard.guard.pressure import Pressure
from memguard.guard.rungs import Job, shuts_gate
from memguard.host.readings import ProcessIdentity
from memguard.ledger.board import Ask, Entry
from memguard.ledger.records import Lease


def job(reserved: int, used: int, asked: Ask = Ask.NOTHING) -> Job:
    """Return a running job."""
    owner = ProcessIdentity("here", "boot", 1, 1)
    return Job(
        Lease("one", owner, "one", reserved, used, 0, 0.0, 1.0, "", 0, 0), Entry(used, used, asked, 0.0, 1, 1)
    )


@pytest.mark.parametrize("state", list(Pressure))
def test_who_keeps_to_his_reservation_keeps_nobody_out(state: Pressure) -> None:
    """Memory that is short because promises are kept is accounted for; only an emergency shuts everybody out."""
    assert shuts_gate(state, [job(10, 9)], others_over=False) == (state is Pressure.CRITICAL)


@pytest.mark.parametrize("state", list(Pressure))
@pytest.mark.parametrize(
    ("jobs", "others_over"), [([job(10, 11)], False), ([job(10, 9, Ask.FROZEN)], False), ([job(10, 9)], True)]
)
def test_who_is_over_or_held_keeps_others_out_while_memory_is_short(
    state: Pressure, jobs: list[Job], others_over: bool
) -> None:
    """Until it is better nobody else is let in beside one who takes what was not promised, or before one who waits."""
    assert shuts_gate(state, jobs, others_over=others_over) == (state >= Pressure.RECOVERING)
