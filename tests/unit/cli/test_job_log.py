"""What a wrapped command's user is told while it runs."""

from __future__ import annotations

from memguard.cli.job_log import LoggedRecorder


def told(*asks: tuple[str, str]) -> list[str]:
    """What is said when this was asked of a job, before and then, one after the other."""
    said = list[str]()
    recorder = LoggedRecorder("job", 100, 0.8, said.append)
    for at_s, (before, asked) in enumerate(asks):
        recorder.take({"kind": "asked", "asked": asked, "before": before}, float(at_s))
    return said


def test_who_is_made_to_wait_is_told_so_and_that_it_goes_on() -> None:
    """Both are a line each, the first with the page on it; to be asked for something else is no line."""
    waits, goes_on = told(("NOTHING", "SHED"), ("SHED", "FROZEN"), ("FROZEN", "NOTHING"))
    assert waits.endswith("(memguard runbook JobThrottled)")
    assert goes_on == "goes on; it was made to wait for 1.0 s in all"


def test_who_is_ended_while_it_waits_does_not_go_on() -> None:
    """Its death is told when it has ended."""
    assert len(told(("NOTHING", "FROZEN"), ("FROZEN", "KILL"))) == 1
