"""What a job told, put in order: phases with their peaks, warnings, notes, batches, all of them bounded."""

from __future__ import annotations

from typing import Any

from memguard.report import BatchSummary
from memguard.units import MIB
from memguard.worker.recorder import JobRecorder


def use(mib: int, kind: str = "use") -> dict[str, Any]:
    return {"kind": kind, "used_bytes": mib * MIB, "peak_bytes": mib * MIB}


def phase(name: str, detail: str = "") -> dict[str, Any]:
    return {"kind": "phase", "name": name, "detail": detail}


def recorder() -> JobRecorder:
    return JobRecorder(100 * MIB, 0.8)


def test_phases_follow_each_other_without_a_gap() -> None:
    """Each phase ends where the next begins, the last at the end; each has the peak that was seen in it."""
    told = recorder()
    for at_s, message in [
        (1.0, phase("load", "rows")),
        (1.5, use(30)),
        (2.0, use(10)),
        (3.0, phase("fit")),
        (3.5, use(20)),
    ]:
        told.take(message, at_s)
    first, second = told.phases(5.0)
    assert (first.name, first.started_s, first.duration_s, first.peak_bytes) == ("load", 1.0, 2.0, 30 * MIB)
    # What was in use when it began counts for a phase as well.
    assert (second.name, second.started_s, second.duration_s, second.peak_bytes) == (
        "fit",
        3.0,
        2.0,
        20 * MIB,
    )
    assert told.phases(4.0)[1].duration_s == 1.0


def test_progress_is_where_the_job_is_now() -> None:
    """A new phase forgets the fraction of the one before it; use and time go on."""
    told = recorder()
    told.take(phase("load", "rows"), 1.0)
    half = told.take({"kind": "progress", "fraction": 0.5}, 1.2)
    assert (half.phase, half.detail, half.fraction, half.elapsed_s) == ("load", "rows", 0.5, 1.2)
    assert half.budget_bytes == 100 * MIB
    told.take(use(40), 1.3)
    after = told.take(phase("fit"), 2.0)
    assert (after.phase, after.fraction, after.used_bytes, after.elapsed_s) == ("fit", None, 40 * MIB, 2.0)


def test_nearing_is_recorded_with_figures_and_told_at_once() -> None:
    """The warning names use, share and budget, and whoever listens hears it when it happens."""
    heard: list[str] = []
    told = recorder()
    told.on_nearing = heard.append
    assert not told.nearing_was_told
    told.take(use(85, "neared"), 2.5)
    assert told.nearing_was_told
    assert heard == ["use reached 85 MiB, 85% of the budget of 100 MiB"]
    assert [(each.at_s, each.text) for each in told.warnings] == [(2.5, heard[0])]


def test_notes_keep_their_last_value_and_batches_their_last_count() -> None:
    """A note of the same name replaces the one before; batches arrive as running totals."""
    told = recorder()
    for value in (1, 2):
        told.take({"kind": "note", "key": "rows", "value": value}, 0.0)
    told.take({"kind": "batches", "figures": [2, 30, 10, 20]}, 0.0)
    assert told.notes == {"rows": 2}
    assert told.batches == BatchSummary(2, 30, 10, 20)


def test_a_job_that_never_stops_talking_is_cut_short() -> None:
    """Of ten thousand phases, warnings and notes a report keeps some hundred each, and says that more came."""
    told = recorder()
    for number in range(10_000):
        told.take(phase(f"phase {number}"), float(number))
        told.take({"kind": "warning", "text": f"warning {number}"}, float(number))
        told.take({"kind": "note", "key": f"note {number}", "value": number}, float(number))
    told.take({"kind": "note", "key": "note 0", "value": "changed"}, 0.0)
    assert len(told.phases(10_000.0)) == 500
    assert told.phases(10_000.0)[-1].name == "phase 9999"
    assert len(told.warnings) == 501
    assert told.warnings[-1].text == "more warnings came, and are not kept"
    assert len(told.notes) == 500
    assert told.notes["note 0"] == "changed"


def test_what_is_not_known_is_let_pass() -> None:
    """A message of a newer worker changes nothing but the time."""
    told = recorder()
    assert told.take({"kind": "new"}, 3.0).elapsed_s == 3.0
    told.take({"kind": "started", "fence": "rlimit"}, 0.0)
    assert told.fence == "rlimit"
