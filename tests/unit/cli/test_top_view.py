"""What ``memguard top`` shows and what its keys do: pure, from a look, a view and the size of a terminal."""

from __future__ import annotations

import dataclasses
import json
import math
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.cli.lines import Line, Style, clip, pad, width_of
from memguard.cli.overview import Growth, Overview, time_to_reach
from memguard.cli.top_columns import COLUMNS
from memguard.cli.top_view import View, document, frame, pressed, settled, shown_jobs
from memguard.guard import Pressure, PressureNow
from memguard.host.readings import MachineReading, MemoryLimit, ProcessIdentity
from memguard.ledger.board import Ask, Entry
from memguard.ledger.records import Lease, Room
from memguard.ledger.snapshot import Snapshot
from memguard.ledger.standing import stand
from memguard.units import MIB

LIMIT = MemoryLimit("physical", "/meminfo", 1000 * MIB, 500 * MIB)
MACHINE = MachineReading(1000 * MIB, 500 * MIB, 500 * MIB, LIMIT, (LIMIT,), 0, None)
ROOM = Room(900 * MIB, 400 * MIB, "physical")
NORMAL = PressureNow(Pressure.NORMAL, 0.0, 0.5, 0.0, math.inf, 1.0)
NAMES = [column.name for column in COLUMNS]


def lease(name: str, reserved: int, used: int | None = None, *, parent: str = "", pid: int = 1) -> Lease:
    """Return a lease of so many MiB; one that waits where nothing is said of its use."""
    owner = ProcessIdentity("here", "boot", pid, 1)
    since = None if used is None else 5.0
    return Lease(name, owner, name, reserved * MIB, (used or 0) * MIB, 0, 4.0, since, parent, 0, 0)


def look(*leases: Lease, growth: dict[str, float] | None = None, **change: object) -> Overview:
    """Return what a look at these jobs finds."""
    standings = stand(leases, lambda each: Entry(limit_bytes=each.reserved_bytes), ROOM, 100.0)
    seen = Overview(
        100.0, 0.0, MACHINE, ROOM, Snapshot(Path("ledger")), standings, NORMAL, None, growth or {}
    )
    return dataclasses.replace(seen, **change)  # type: ignore[arg-type]


SOME = look(
    lease("train", 300, 250, pid=31),
    lease("inner", 100, 10, parent="train", pid=32),
    lease("tune", 600, pid=33),
    lease("report", 50, 80, pid=34),
)


def texts(lines: list[Line]) -> list[str]:
    return [each.text for each in lines]


def names(seen: Overview, view: View) -> list[str]:
    return [each.lease.name for each in shown_jobs(seen, view)]


@pytest.mark.parametrize("name", NAMES)
def test_each_column_sorts_and_can_be_reversed(name: str) -> None:
    """Every column has an order, the reverse is another or the same, and who is inside a job stays below it."""
    for reverse in (False, True):
        order = names(SOME, View(sort=name, reverse=reverse))
        assert sorted(order) == ["inner", "report", "train", "tune"]
        assert order[order.index("train") + 1] == "inner"


def test_the_largest_user_is_first() -> None:
    """Without a wish the order is by use; by time to the limit it is the soonest first."""
    assert names(SOME, View()) == ["train", "inner", "report", "tune"]
    grows = look(
        lease("slow", 500, 100), lease("fast", 500, 100), growth={"slow": 1.0 * MIB, "fast": 9.0 * MIB}
    )
    assert names(grows, View(sort="to limit")) == ["fast", "slow"]
    assert names(SOME, View(sort="name")) == ["report", "train", "inner", "tune"]


def test_a_filter_shows_parts_of_names() -> None:
    """Capitals do not count; who is inside a job that is not shown is shown all the same."""
    assert names(SOME, View(filter="T", sort="name")) == ["report", "train", "tune"]
    assert names(SOME, View(filter="inn")) == ["inner"]
    assert texts(frame(SOME, View(filter="none")))[-1] == "no job's name contains 'none'"


def test_a_frame_tells_what_there_is() -> None:
    """How full the machine is, what is promised, the state and the jobs with their figures, and why one waits."""
    told = "\n".join(texts(frame(SOME, View())))
    assert "3 running" not in told
    assert "2 running, 1 waiting" in told
    assert "[###############++.............] 50% used: 500 MiB of 1000 MiB (physical)" in told
    assert "reserved 350 MiB, 50 MiB of it not used yet; 350 MiB free for jobs" in told
    assert "state normal; sentinel: none runs" in told
    assert "  inner  running" in told
    assert "tune (pid 33) has waited 1 min 36 s: needs 600 MiB, 350 MiB are free" in told
    report = next(line for line in texts(frame(SOME, View())) if " report " in line)
    assert report.split()[:3] == ["34", "report", "running"]
    assert "30 MiB" in report


@given(st.integers(1, 200), st.integers(1, 60), st.sampled_from(NAMES), st.integers(0, 50), st.booleans())
def test_a_frame_fits_every_terminal(columns: int, rows: int, sort: str, first: int, helps: bool) -> None:
    """No line is wider and no frame is longer than the terminal, however small, and nothing raises."""
    wide = look(*(lease(f"日本 job {n} " * 3, 500, n, pid=10**6 + n) for n in range(1, 40)), lease("w", 900))
    lines = frame(wide, View(sort=sort, first=first, helps=helps), columns, rows)
    assert len(lines) <= rows
    assert all(width_of(each.text) <= columns for each in lines)


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_names_and_use_stay_where_not_all_fits(columns: int) -> None:
    """What is dropped first is what one can do without; the column that sorts stays."""
    (head,) = [each for each in frame(SOME, View(sort="priority"), columns, 24) if each.style is Style.HEAD]
    assert {"name", "used", "pid", "priority"} <= set(head.text.split())


def test_many_jobs_can_be_scrolled() -> None:
    """The last line says how many are above and below, and no key leads beyond the ends."""
    many = look(*(lease(f"job{n:02}", 10, n + 1) for n in range(50)))
    view = View(sort="name")
    assert any("0 above, 38 below" in each for each in texts(frame(many, view, 80, 20)))
    for _ in range(9):
        view = settled(pressed(view, "page down"), many, 80, 20)
    assert view.first == 38
    shown = texts(frame(many, view, 80, 20))
    assert any("38 above, 0 below" in each for each in shown)
    assert any("job49" in each for each in shown)
    assert pressed(View(), "up") == pressed(View(), "page up") == View()


def test_keys_change_the_order() -> None:
    """s, > and the arrow go on to the next column, < back, r turns round, and all columns come round."""
    assert pressed(View(), "s") == pressed(View(), ">") == pressed(View(), "right") == View(sort="overrun")
    assert pressed(View(), "<") == pressed(View(), "left") == View(sort="reserved")
    assert pressed(View(), "r") == View(reverse=True)
    view, met = View(), list[str]()
    for _ in COLUMNS:
        view = pressed(view, "s")
        met.append(view.sort)
    assert sorted(met) == sorted(NAMES)


def test_a_filter_is_typed() -> None:
    """After / keys are letters, q too; Enter keeps the text and Esc drops it."""
    view = View()
    for key in ("/", "q", "x", "backspace", "left"):
        view = pressed(view, key)
    assert (view.filter, view.is_typing, view.is_over) == ("q", True, False)
    assert pressed(view, "enter") == View(filter="q")
    assert pressed(view, "escape") == View()
    assert pressed(View(filter="q"), "escape") == View()
    assert texts(frame(SOME, view, 80, 24))[-1].startswith("names that contain: q_")


def test_q_ends_it_and_nothing_kills() -> None:
    """q is the only key that ends it, h shows the help, and k does nothing to anybody."""
    assert pressed(View(), "q").is_over
    assert pressed(View(), "k") == View()
    assert pressed(View(), "") == View()
    helping = pressed(View(), "h")
    assert "quit" in "\n".join(texts(frame(SOME, helping, 80, 24)))
    assert pressed(helping, "x") == View()
    assert pressed(helping, "q").is_over


def test_no_state_is_told_by_colour_alone() -> None:
    """What has a colour of its own says in words what the colour means."""
    asked = stand([lease("a", 100, 10)], lambda _: Entry(asked=Ask.FROZEN), ROOM, 100.0)
    seen = look(standings=asked, pressure=dataclasses.replace(NORMAL, state=Pressure.CRITICAL))
    alarms = [each.text for each in frame(seen, View()) if each.style is Style.ALARM]
    assert ["critical" in alarms[0], "frozen" in alarms[1]] == [True, True]


def test_trouble_with_the_ledger_is_in_the_frame() -> None:
    """A ledger that cannot be read is a line of the header, and the machine is shown all the same."""
    seen = look(ledger=Snapshot(trouble="it is damaged"))
    assert "ledger not read: it is damaged" in texts(frame(seen, View(), 80, 24))


def test_the_document_keeps_to_its_schema() -> None:
    """Sorted and filtered as the frame, with how each grows and when it reaches its limit."""
    seen = look(
        lease("a", 300, 100), lease("b", 300, 200), lease("w", 900), growth={"a": 10.0 * MIB, "b": -1.0}
    )
    found = json.loads(json.dumps(document(seen, View())))
    schema = json.loads(resources.files("memguard").joinpath("schemas", "top-1.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(found)
    assert [(each["name"], each["time_to_limit_s"]) for each in found["jobs"]] == [
        ("b", None),
        ("a", 20.0),
        ("w", None),
    ]


def test_both_documents_have_the_same_jobs() -> None:
    """What top says of a job and of the machine is what status says, and two fields more for a job."""
    schemas = [
        json.loads(resources.files("memguard").joinpath("schemas", f"{name}-1.json").read_text())
        for name in ("status", "top")
    ]
    status, top = (each["$defs"]["job"]["properties"] for each in schemas)
    assert top.keys() - status.keys() == {"growth_bytes_per_s", "time_to_limit_s"}
    assert {name: top[name] for name in status} == status
    shared = schemas[0]["properties"].keys() & schemas[1]["properties"].keys() - {"schema", "jobs", "notes"}
    assert {name: schemas[0]["properties"][name] for name in shared} == {
        name: schemas[1]["properties"][name] for name in shared
    }


def test_growth_is_that_of_the_last_seconds() -> None:
    """A rate over a few seconds, none at the first look, negative for what shrinks, and nobody is kept for ever."""
    growth = Growth()
    assert [growth.observe("a", at, used) for at, used in [(0.0, 0), (1.0, 100), (2.0, 300)]] == [
        0.0,
        100.0,
        150.0,
    ]
    assert growth.observe("a", 20.0, 400) == 0.0
    assert growth.observe("a", 21.0, 100) == -300.0
    growth.forget_all_but(set())
    assert growth.observe("a", 22.0, 500) == 0.0
    assert time_to_reach(100, 40, 6.0) == 10.0
    assert time_to_reach(100, 140, 6.0) == 0.0
    assert math.isinf(time_to_reach(100, 40, -6.0))


def test_texts_are_cut_by_the_room_they_take() -> None:
    """Wide letters take two columns and accents none; what is cut is marked."""
    assert (width_of("abc"), width_of("日本"), width_of("e\u0301")) == (3, 4, 1)
    assert (clip("abcdef", 4), clip("日本語", 4), clip("abc", 3)) == ("abc~", "日~", "abc")
    assert (pad("ab", 4, True), pad("ab", 4, False), pad("日本語", 4, True)) == ("  ab", "ab  ", " 日~")
