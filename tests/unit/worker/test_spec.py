"""The records that cross between processes come out of JSON as they went in."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from memguard.host.readings import ProcessIdentity
from memguard.report import CleanupSummary, ProcessUse
from memguard.worker.spec import EndRecord, GuardPlan, JobSpec
from memguard.worker.verdict import Delivery, Ending, StopReason

SIZES = st.integers(0, 2**50)
SECONDS = st.floats(0, 1e6, allow_nan=False)
PLANS = st.builds(
    GuardPlan,
    limit_bytes=SIZES,
    warn_fraction=st.floats(0, 1),
    timeout_s=st.none() | SECONDS,
    grace_s=SECONDS,
    shortest_interval_s=SECONDS,
    longest_interval_s=SECONDS,
    fence=st.sampled_from(["auto", "cgroup", "rlimit", "none"]),
    oom_score_adj=st.integers(0, 1000),
)
SPECS = st.builds(
    JobSpec,
    job_id=st.text(),
    name=st.text(),
    owner=st.builds(ProcessIdentity, st.text(), st.text(), st.integers(1), SIZES),
    plan=PLANS,
)
RECORDS = st.builds(
    EndRecord,
    ending=st.builds(
        Ending,
        exit_code=st.none() | st.integers(-64, 255),
        delivery=st.sampled_from(Delivery),
        stop_reason=st.none() | st.sampled_from(StopReason),
        limit_bytes=SIZES,
        peak_bytes=SIZES,
        fence_kind=st.text(),
        fence_high_water_bytes=st.none() | SIZES,
        owes_value=st.booleans(),
    ),
    duration_s=SECONDS,
    cleanup=st.builds(CleanupSummary, SECONDS, st.booleans(), st.lists(st.text()).map(tuple)),
    baseline_bytes=SIZES,
    processes=st.lists(st.builds(ProcessUse, st.integers(1), st.text(), SIZES)).map(tuple),
    degraded=st.lists(st.text()).map(tuple),
)


@given(SPECS)
def test_a_spec_comes_back(spec: JobSpec) -> None:
    """A job's spec survives the way through JSON, enum texts and None included."""
    assert JobSpec.from_message(json.loads(json.dumps(spec.to_message()))) == spec


@given(RECORDS)
def test_a_record_comes_back(record: EndRecord) -> None:
    """So does the record of an end, with its enums as enums and its lists as tuples."""
    back = EndRecord.from_message(json.loads(json.dumps(record.to_message())))
    assert back == record
    assert isinstance(back.ending.delivery, Delivery)


def test_the_lines_to_watch_are_those_of_the_plan() -> None:
    """A plan's limits reach the watch unchanged."""
    plan = GuardPlan(1000, 0.5, None, 1.0, 0.01, 0.2, "auto", 500)
    limits = plan.watch_limits
    assert (limits.limit_bytes, limits.warn_bytes) == (1000, 500)
    assert (limits.shortest_interval_s, limits.longest_interval_s) == (0.01, 0.2)
