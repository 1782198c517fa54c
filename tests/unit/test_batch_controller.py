"""How many rows next: pure decisions, whatever is measured."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.guard.pressure import Pressure
from memguard.memory import BatchController, BatchDecision, BatchReason, PastBatches
from memguard.units import MIB


@dataclass(frozen=True)
class Batch:
    """What happened in one batch: the share of the allowed rows that it had, its cost, and the state after it."""

    used_share: float
    cost_bytes: int
    free_bytes: int
    pressure: Pressure
    failed: bool


BATCHES = st.lists(
    st.builds(
        Batch,
        used_share=st.floats(0, 1),
        cost_bytes=st.integers(-(10**9), 10**10),
        free_bytes=st.integers(-(10**6), 10**11),
        pressure=st.sampled_from(Pressure),
        failed=st.integers(0, 9).map(lambda number: number == 0),
    ),
    max_size=60,
)
CONTROLLERS = st.builds(
    BatchController,
    at_rest_bytes=st.floats(0, 1e6),
    free_bytes=st.integers(0, 10**11),
    total_rows=st.none() | st.integers(0, 10**9),
    predicted_bytes=st.none() | st.floats(1e-3, 1e6),
    pressure=st.sampled_from(Pressure),
    past=st.none() | st.builds(PastBatches, st.floats(1e-3, 1e9), st.integers(1, 10**9)),
)


def play(controller: BatchController, batch: Batch) -> tuple[int, BatchDecision]:
    """Have a batch of at least one row happen; returns its rows and the decision."""
    rows = max(1, int(controller.rows * batch.used_share))
    if batch.failed:
        return rows, controller.failed(rows, batch.free_bytes)
    return rows, controller.finished(rows, batch.cost_bytes, batch.free_bytes, batch.pressure)


@pytest.mark.requirement("R3.1", "T4.1")
@given(CONTROLLERS, BATCHES)
def test_rules_hold_for_any_history(controller: BatchController, batches: list[Batch]) -> None:
    """A size is at least 1, grows only by a proven, allowed step, and falls by half at most without an emergency."""
    first = controller.rows
    assert (controller.started.rows_before, controller.started.rows) == (0, first)
    assert not controller.started.is_change
    for batch in batches:
        rows, told = play(controller, batch)
        assert told.rows == controller.rows >= 1
        assert told.is_change == (told.rows != told.rows_before)
        if told.rows > told.rows_before:
            assert told.reason is BatchReason.GREW
            assert batch.pressure is Pressure.NORMAL
            assert 2 * rows >= told.rows_before
            assert told.rows <= 2 * told.rows_before
        elif told.rows < told.rows_before:
            assert told.reason in (BatchReason.SHRANK, BatchReason.PRESSURE, BatchReason.RETRIED)
            if told.reason is BatchReason.SHRANK or (batch.pressure is Pressure.HIGH and not batch.failed):
                assert told.rows >= told.rows_before // 2
        else:
            assert told.reason is not BatchReason.GREW
        if batch.failed:
            assert told.rows <= max(1, rows // 2)


@given(CONTROLLERS, BATCHES)
def test_the_cost_of_a_row_is_never_taken_for_less_than_lately(
    controller: BatchController, batches: list[Batch]
) -> None:
    """Smoothing never hides a recent maximum, nor what a row weighs at rest."""
    recent: list[float] = []
    for batch in batches:
        rows, told = play(controller, batch)
        if not batch.failed:
            recent.append(max(0, batch.cost_bytes) / rows)
        assert told.bytes_per_row >= max([0.0, *recent[-16:]])


@given(st.floats(0, 1e9), st.integers(0, 2**45), st.none() | st.integers(0, 10**9), st.sampled_from(Pressure))
def test_the_first_batch_is_a_part(
    bytes_per_row: float, free: int, total: int | None, pressure: Pressure
) -> None:
    """The first batch fits a twentieth of the room and is at most a sixteenth of the rows, a thousand at least."""
    rows = BatchController(bytes_per_row, free, total, pressure=pressure).rows
    assert 1 <= rows <= (10**9 if total is None else max(1000, total // 16))
    if bytes_per_row > 0 and rows > 1:
        assert rows * bytes_per_row <= free * 0.05 * 1.001


def test_a_row_without_a_weight_still_has_a_first_batch() -> None:
    """The smallest numbers there are do not make the first batch endless."""
    assert BatchController(5e-324, 2**45).rows == 10**9
    assert BatchController(0, 0).rows == 1000


def test_growing_is_additive_and_shrinking_multiplicative() -> None:
    """Each step up is half the first size, each step down a share of the size at hand."""
    controller = BatchController(1000, 1000 * MIB, 32_000)
    steps = [controller.finished(controller.rows, 0, 1000 * MIB).rows for _ in range(3)]
    assert steps == [3000, 4000, 5000]
    down = [controller.finished(controller.rows, 0, 8 * MIB).rows for _ in range(2)]
    assert down == [2500, 2000]


def test_a_size_that_just_does_not_fit_falls_by_a_fifth() -> None:
    """So that it is not changed at every batch; and it grows again only when the whole step fits."""
    controller = BatchController(0, 4_000_000)
    first = controller.finished(1000, 1_000_100, 4_000_000)
    assert (first.rows, first.reason) == (800, BatchReason.SHRANK)
    second = controller.finished(800, 800_000, 4_000_000)
    assert (second.rows, second.reason) == (800, BatchReason.HELD)


def test_a_small_batch_proves_nothing() -> None:
    """The rest of the data, or a small chunk, is no ground to grow, however much is free."""
    controller = BatchController(0, 0)
    told = controller.finished(499, 0, 10**12)
    assert (told.rows, told.reason) == (1000, BatchReason.UNPROVEN)
    assert controller.finished(500, 0, 10**12).reason is BatchReason.GREW


def test_a_peak_is_remembered_for_sixteen_batches() -> None:
    """A cheap batch says little, since peaks are sampled; a spike is forgotten slowly, not at once."""
    controller = BatchController(10, 10**9, 10_000)
    controller.finished(100, 100_000, 10**12)
    costs = [controller.finished(100, 0, 10**12).bytes_per_row for _ in range(40)]
    assert costs[:15] == [1000] * 15
    assert costs[15] < 1000
    assert costs[-1] == 10


def test_the_first_batch_follows_what_past_work_took_for_a_row() -> None:
    """Instead of a twentieth of the room by what rows weigh it gets a quarter by what they cost, and says so."""
    guessed = BatchController(100, 100 * MIB, 10**6)
    recalled = BatchController(100, 100 * MIB, 10**6, past=PastBatches(400.0, 10**6))
    dear = BatchController(100, 100 * MIB, 10**6, past=PastBatches(100_000.0, 10**6))
    assert guessed.started.reason is BatchReason.STARTED
    assert recalled.started.reason is dear.started.reason is BatchReason.RECALLED
    assert recalled.rows > guessed.rows
    assert recalled.rows * 400 <= 25 * MIB
    assert dear.rows == 25 * MIB // 100_000 < guessed.rows


def test_no_first_batch_is_larger_than_past_ones() -> None:
    """What was never tried is grown into by steps."""
    assert BatchController(1, 100 * MIB, 10**6, past=PastBatches(2.0, 5000)).rows == 5000


def test_rows_heavier_than_past_ones_count_by_their_weight() -> None:
    """A wider table is no cheaper than it weighs."""
    assert BatchController(10_000, 100 * MIB, 10**6, past=PastBatches(10.0, 10**6)).bytes_per_row == 10_000


def test_what_a_user_says_of_a_row_goes_before_the_past() -> None:
    """His prediction sizes the first batch as if there were no past."""
    with_past = BatchController(1, 100 * MIB, predicted_bytes=900.0, past=PastBatches(5.0, 10))
    assert with_past.started == BatchController(1, 100 * MIB, predicted_bytes=900.0).started
