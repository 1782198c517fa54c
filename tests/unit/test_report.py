"""The report as a document: valid for every outcome, the same there and back, refused when it is none."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import memguard.report
import memguard.sizing
from memguard.cli.report import describe
from memguard.errors import DataError
from memguard.events import JsonScalar
from memguard.report import (
    Attempt,
    BatchSummary,
    BudgetReport,
    CallerMemory,
    CapacityReport,
    CleanupSummary,
    Death,
    EstimateSummary,
    Evidence,
    JobReport,
    Outcome,
    OuterBudget,
    PhaseReport,
    ProcessUse,
    ReportWarning,
    report_from_json,
    report_to_json,
)
from memguard.story import with_story
from tests.support.guarded import check_report, report_validator

SIZES = st.integers(0, 2**50)
SECONDS = st.floats(0, 1e9, allow_nan=False)
WORDS = st.text(min_size=1)
SCALARS: st.SearchStrategy[JsonScalar] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)


def some(record: type, *parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(st.builds(record, *parts), max_size=3).map(tuple)


REPORTS = st.builds(
    JobReport,
    job_id=WORDS,
    name=WORDS,
    kind=st.sampled_from(["function", "command", "managed"]),
    what=WORDS,
    started_at=WORDS,
    duration_s=SECONDS,
    outcome=st.sampled_from(Outcome),
    exit_status=st.none() | st.integers(0, 255),
    signal=st.none() | st.sampled_from(["SIGKILL", "signal 40"]),
    evidence=st.lists(st.builds(Evidence, WORDS, WORDS), min_size=1, max_size=3).map(tuple),
    budget=st.builds(
        BudgetReport,
        SIZES,
        st.text(),
        st.sampled_from(["cgroup-v1", "cgroup-v2", "rlimit", "watch", "cooperative", "unknown"]),
        some(OuterBudget, SIZES, st.text(), st.sampled_from(["budget", "memory", "--memory"])),
    ),
    capacity=st.builds(CapacityReport, st.integers(1, 2**50), SIZES, st.text(), st.text()),
    estimate=st.none() | st.builds(EstimateSummary, SIZES, SIZES, st.lists(st.text()).map(tuple)),
    peak_bytes=SIZES,
    kernel_peak_bytes=st.none() | SIZES,
    baseline_bytes=SIZES,
    caller=st.builds(CallerMemory, SIZES, SIZES, st.none() | SIZES),
    cleanup=st.builds(CleanupSummary, SECONDS, st.booleans(), st.lists(st.text()).map(tuple)),
    batches=st.builds(BatchSummary, SIZES, SIZES, SIZES, SIZES),
    phases=some(PhaseReport, st.text(), SECONDS, SECONDS, SIZES),
    processes=some(ProcessUse, st.integers(1, 2**22), st.text(), SIZES),
    warnings=some(ReportWarning, SECONDS, st.text()),
    recommendations=st.lists(st.text()).map(tuple),
    death=st.none() | st.builds(Death, *[st.text()] * 5, st.lists(st.text()).map(tuple), st.text()),
    error=st.none() | st.text(),
    guard_degraded=st.lists(st.text()).map(tuple),
    arguments=st.lists(st.text()).map(tuple),
    environment=st.dictionaries(st.text(), st.text()),
    notes=st.dictionaries(st.text(), SCALARS),
    versions=st.dictionaries(st.text(), st.text()),
)


def document() -> dict[str, Any]:
    return report_to_json(
        JobReport(
            job_id="1",
            name="fit",
            kind="function",
            what="mine.fit",
            started_at="now",
            duration_s=1.0,
            outcome=Outcome.COMPLETED,
            exit_status=None,
            signal=None,
            evidence=(Evidence("exit status", "exited with 0"),),
            budget=BudgetReport(100, "memory 100", "watch"),
            capacity=CapacityReport(1000, 900, "physical", "/proc/meminfo"),
            estimate=None,
            peak_bytes=75,
            kernel_peak_bytes=None,
            baseline_bytes=0,
            caller=CallerMemory(1, 2, None),
            cleanup=CleanupSummary(),
        )
    )


@given(REPORTS)
def test_every_report_is_a_valid_document_and_comes_back(report: JobReport) -> None:
    """Whatever a report holds, it is a document of the schema, and reading that gives the same report."""
    check_report(report)


def test_the_schema_knows_every_field_and_no_other() -> None:
    """Fields of the records, their properties in the schema and what is required there are the same."""
    schema = report_validator().schema
    derived = {"schema", "reason", "utilisation"}
    fields = {each.name for each in dataclasses.fields(JobReport)} | derived
    assert set(schema["properties"]) == set(schema["required"]) == fields
    assert schema["additionalProperties"] is False
    assert schema["properties"]["outcome"]["enum"] == list(Outcome)
    assert schema["properties"]["reason"]["enum"] == [*Outcome, "machine_pressure"]
    for name, definition in schema["$defs"].items():
        record = getattr(memguard.report, name, None) or getattr(memguard.sizing, name)
        fields = {each.name for each in dataclasses.fields(record)}
        assert set(definition["properties"]) == set(definition["required"]) == fields
        assert definition["additionalProperties"] is False


def test_the_schema_has_each_record_of_the_report() -> None:
    """Every record that a report is made of is defined, so that none is checked loosely."""
    assert records_in(JobReport) - {"JobReport"} == set(report_validator().schema["$defs"])


def records_in(hint: Any) -> set[str]:
    if dataclasses.is_dataclass(hint):
        inner = get_type_hints(hint).values()
        return {hint.__name__}.union(*map(records_in, inner))  # type: ignore[union-attr]
    return set[str]().union(*map(records_in, get_args(hint)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("outcome",), "exploded"),
        (("kind",), "daemon"),
        (("peak_bytes",), -1),
        (("peak_bytes",), 1.5),
        (("exit_status",), 256),
        (("budget", "fence"), "wall"),
        (("cleanup", "verified"), "yes"),
        (("evidence",), []),
        (("notes",), {"deep": {}}),
        (("extra",), 1),
        (("budget", "extra"), 1),
    ],
)
def test_a_wrong_document_is_refused_by_the_schema(path: tuple[str, ...], value: Any) -> None:
    """The schema is not so loose that it takes what a report never says."""
    wrong = document()
    inner = wrong
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    report_validator().validate(document())
    with pytest.raises(jsonschema.ValidationError):
        report_validator().validate(wrong)


def test_what_is_derived_is_told_too() -> None:
    """Utilisation, and the reason that exit statuses refer to, stand in the document."""
    made = document()
    assert (made["schema"], made["reason"], made["utilisation"]) == ("memguard.report/1", "completed", 0.75)
    assert next(iter(made)) == "schema"
    without = dataclasses.replace(report_from_json(made), budget=BudgetReport(0, "none", "watch"))
    assert without.utilisation == 0.0
    assert without.with_exit_status(137).exit_status == 137


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"schema": "memguard.status/1"},
            r"r.json: is not a job report \(schema 'memguard.status/1'\); give a file",
        ),
        ({"schema": None}, "is not a job report"),
        ({"outcome": "exploded"}, "is a damaged job report .*exploded"),
        ({"budget": 7}, "is a damaged job report .*budget"),
        ({"caller": {"before_bytes": 1}}, "is a damaged job report"),
        ({"evidence": {"a": 1}}, "is a damaged job report .*evidence"),
        ({"peak_bytes": "much"}, "is a damaged job report .*peak_bytes"),
        ({"notes": {"a": []}}, "is a damaged job report .*notes"),
        ({"notes": {"a": math.nan}}, "is a damaged job report .*notes: nan is no figure"),
        ({"duration_s": math.inf}, "is a damaged job report .*duration_s: inf is no figure"),
        ({"duration_s": math.nan}, "is a damaged job report .*duration_s"),
        ({"duration_s": 1e300}, r"is a damaged job report .*duration_s: a number beyond 2\^63"),
        ({"peak_bytes": 10**400}, r"is a damaged job report .*peak_bytes: a number beyond 2\^63"),
        ({"peak_bytes": 10**5000}, "is a damaged job report .*peak_bytes"),
        ({"outcome": 10**5000}, "is a damaged job report .*outcome"),
        ({"schema": 10**5000}, r"is not a job report \(schema some int\)"),
    ],
    ids=itertools.count(),
)
def test_what_is_no_report_is_refused_by_name(change: dict[str, Any], told: str) -> None:
    """A file that is something else, or damaged, is named with what is wrong with it."""
    with pytest.raises(DataError, match=told):
        report_from_json({**document(), **change}, subject="r.json")


def test_a_missing_part_is_refused_and_a_new_one_let_pass() -> None:
    """An older reader takes what a newer writer adds; without its own parts a document is damaged."""
    made = document()
    assert report_from_json({**made, "new": 1, "budget": {**made["budget"], "new": 2}}) == report_from_json(
        made
    )
    del made["budget"]
    with pytest.raises(DataError, match="damaged"):
        report_from_json(made)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value in a document."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield from places(each, (*path, name))


ODD: st.SearchStrategy[Any] = st.builds(pow, st.just(10), st.just(5000)) | st.recursive(
    SCALARS
    | st.sampled_from([math.nan, math.inf, -math.inf, 1e308, 10**400, -(2**63) - 1, "budget_kill", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(REPORTS, st.data())
def test_a_damaged_document_is_read_or_refused(report: JobReport, data: st.DataObject) -> None:
    """Whatever stands in a place of a document, reading it gives a report that can be shown, or a `DataError`."""
    damaged = report_to_json(report)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(list(places(damaged))))
        inner: Any = damaged
        for name in path[:-1]:
            inner = inner[name]
        if data.draw(st.booleans()):
            inner[path[-1]] = data.draw(ODD)
        else:
            del inner[path[-1]]
    with contextlib.suppress(DataError):
        read = report_from_json(damaged)
        assert list(describe(with_story(read)))
        json.dumps(report_to_json(read), allow_nan=False)


def test_waits_and_former_tries_are_shown() -> None:
    """How often it was made to wait, and what each try before had and took, stand in the text; else nothing does."""
    plain = dataclasses.replace(report_from_json(document()), throttles=0, attempts=())
    assert "made to wait" not in "".join(describe(plain))
    attempt = Attempt(Outcome.BUDGET_KILL, 64 << 20, 60 << 20, 0.25)
    lines = list(describe(dataclasses.replace(plain, throttles=2, throttled_s=3.0, attempts=(attempt,))))
    told = [" ".join(line.split()) for line in lines]
    assert "made to wait 2 times, 3.0 s in all" in told
    assert "tried before budget kill after 250 ms, peak 60 MiB of 64 MiB" in told


def test_a_kill_for_the_machine_is_not_shown_as_one_for_the_budget() -> None:
    """The first line says the cause, as the reason in the document does."""
    killed = dataclasses.replace(
        report_from_json(document()), outcome=Outcome.BUDGET_KILL, pressure="95% in use"
    )
    assert ": machine pressure after " in next(describe(killed))
    assert ": budget kill after " in next(describe(dataclasses.replace(killed, pressure="")))


def test_a_report_with_no_number_is_not_written() -> None:
    """A figure that JSON has no word for is refused where the document is made."""
    broken = dataclasses.replace(report_from_json(document()), duration_s=math.nan)
    with pytest.raises(ValueError, match="not JSON compliant"):
        report_to_json(broken)


def test_memory_deaths_are_the_four() -> None:
    """Budget, kernel and a failed allocation are deaths of memory; a crash or a timeout is not."""
    assert {each.value for each in Outcome if each.is_memory_death} == {
        "memory_error",
        "budget_kill",
        "budget_soft_stop",
        "kernel_oom",
    }


def test_the_document_is_plain_json() -> None:
    """Nothing but what every JSON reader knows: no NaN, no tuples, keys that are texts."""
    made = document()
    assert json.loads(json.dumps(made, allow_nan=False)) == made
