"""Verdicts over series made from formulas: what leaks is found, what only looks like it is not."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from memguard.leaks.judge import judge
from memguard.leaks.records import CacheFill, Channel, Culprit, Explained, Kind, Shape, Verdict
from tests.support.leak_series import series_of

BLOCK = {40: 5, 200: 15}


def bytes_held(formula: Callable[[int], float], iterations: int) -> Verdict:
    """Judge memory that malloc has, and private memory with it."""
    channels = {Channel.LIVE: formula, Channel.USS: formula}
    return judge(series_of(iterations, channels, block=BLOCK[iterations])).verdict


@pytest.mark.parametrize("iterations", [40, 200])
@pytest.mark.parametrize("size", [200, 30_000, 10 * 1024**2])
def test_equal_growth_leaks(iterations: int, size: int) -> None:
    """The same with each iteration is a leak, be it 200 bytes or 10 MiB, and the figure is right."""
    report = judge(series_of(iterations, {Channel.LIVE: lambda n: n * size}, block=BLOCK[iterations]))
    assert report.verdict is Verdict.LEAKING
    assert report.bytes_per_iteration == pytest.approx(size)
    assert report.interval[0] <= size <= report.interval[1]


@pytest.mark.parametrize("iterations", [40, 200])
def test_growth_at_every_tenth_iteration_leaks(iterations: int) -> None:
    """A leak that shows three times in forty iterations is one."""
    assert bytes_held(lambda n: n // 10 * 40_000, iterations) is Verdict.LEAKING


def test_a_leak_below_noise_is_found() -> None:
    """Growth of a fortieth of what the rest jumps by is seen in 200 iterations."""
    chance = random.Random(1)
    assert bytes_held(lambda n: n * 50_000 + chance.random() * 2e6, 200) is Verdict.LEAKING


@pytest.mark.parametrize("iterations", [40, 200])
@pytest.mark.parametrize(
    "formula",
    [
        lambda n: 0.0,
        lambda n: 5e6 * (n >= 25),
        lambda n: 5e6 * (n >= 25) + 5e6 * (n >= 33),
        lambda n: min(n, 20) * 1e5,
        lambda n: 1e6 * (1 - math.exp(-n / 6)),
        lambda n: n % 7 * 1e5,
        lambda n: n % 2 * 3e6,
    ],
    ids=["nothing", "a step", "two steps", "a pool", "warm-up", "a saw-tooth", "back and forth"],
)
def test_what_does_not_go_on_growing_is_no_leak(formula: Callable[[int], float], iterations: int) -> None:
    """Steps, pools, warm-up and saw-teeth are not called leaking."""
    assert bytes_held(formula, iterations) is not Verdict.LEAKING


@pytest.mark.parametrize("iterations", [40, 200])
def test_random_walks_are_rarely_called_leaking(iterations: int) -> None:
    """Of 100 walks without a drift at most two are taken for a leak."""
    false = 0
    for seed in range(100):
        chance = random.Random(seed)
        heights = [0.0]
        for _ in range(iterations):
            heights.append(heights[-1] + chance.choice((-1, 1)) * 20_000)
        false += bytes_held(lambda n, heights=heights: heights[n], iterations) is Verdict.LEAKING  # type: ignore[misc]
    assert false <= 2


def test_a_fading_growth_asks_for_more() -> None:
    """What grows less and less is inconclusive, with a number of iterations that would decide."""
    report = judge(series_of(200, {Channel.LIVE: lambda n: 1e6 * (1 - math.exp(-n / 80))}, block=15))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.more_iterations is not None
    assert report.more_iterations > 0


def test_too_few_iterations_are_inconclusive() -> None:
    """A dozen iterations decide nothing."""
    report = judge(series_of(12, {Channel.LIVE: lambda n: n * 1e6}))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.more_iterations


def filling(beside: float) -> Explained:
    """Return a census that found a cache filling with 1,000 bytes an iteration, and something else."""
    cache = CacheFill("app.render", 40, 60, 1.0, 1000.0)
    other = (Culprit("bytes", "app.KEPT: list, +1 entries/iteration", beside),) if beside else ()
    return Explained(30, objects=1.0, object_bytes=1000.0 + beside, filling=(cache,), culprits=other)


def test_a_bounded_cache_below_its_bound_is_filling() -> None:
    """Growth that a bounded cache explains is inconclusive until the cache is full."""
    series = series_of(40, {Channel.LIVE: lambda n: n * 1000.0})
    report = judge(series, explained=filling(0.0))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.more_iterations is not None
    assert report.more_iterations >= 20
    assert "filling" in report.evidence[0]


def test_a_cache_does_not_excuse_what_grows_beside_it() -> None:
    """A leak stays one where a cache happens to fill as well."""
    series = series_of(40, {Channel.LIVE: lambda n: n * 9000.0})
    assert judge(series, explained=filling(8000.0)).verdict is Verdict.LEAKING


def test_a_cache_does_not_excuse_native_growth() -> None:
    """Where far more grows than objects explain, a filling cache is not the reason."""
    series = series_of(40, {Channel.LIVE: lambda n: n * 700_000.0})
    report = judge(series, explained=filling(0.0))
    assert (report.verdict, report.kind) == (Verdict.LEAKING, Kind.NATIVE)


@pytest.mark.parametrize(
    ("channel", "kind"),
    [(Channel.FDS, Kind.FD), (Channel.THREADS, Kind.THREAD), (Channel.SHARED, Kind.SHARED_MEMORY)],
)
def test_what_is_counted_has_its_own_kind(channel: Channel, kind: Kind) -> None:
    """Descriptors, threads and shared memory are named as such."""
    step = 65536.0 if channel is Channel.SHARED else 1.0
    report = judge(series_of(40, {channel: lambda n: n * step}))
    assert (report.verdict, report.kind) == (Verdict.LEAKING, kind)


def test_few_objects_with_much_memory_are_native() -> None:
    """Code that a compiler makes is native, though a handful of objects comes with each function."""
    channels = {
        Channel.USS: lambda n: n * 7e5,
        Channel.LIVE: lambda n: n * 7e5,
        Channel.BLOCKS: lambda n: n * 24.0,
        Channel.OBJECTS: lambda n: n * 6.0,
    }
    explained = Explained(30, objects=30.0, object_bytes=9_000.0)
    report = judge(series_of(40, channels), explained=explained, sources=("numba compiled 30 functions",))
    assert (report.kind, report.source) == (Kind.NATIVE, "numba compiled 30 functions")


def test_buffers_that_objects_own_are_arrays() -> None:
    """Two blocks and a mebibyte in malloc that the census finds in arrays are an array leak."""
    channels = {c: (lambda n: n * 1e6) for c in (Channel.USS, Channel.LIVE)} | {
        Channel.BLOCKS: lambda n: 2.0 * n
    }
    report = judge(series_of(40, channels), explained=Explained(30, object_bytes=1e6, array_bytes=9.9e5))
    assert report.kind is Kind.ARRAY


def test_memory_past_malloc_is_a_mapping() -> None:
    """Private memory that grows where malloc's books do not is mapped."""
    report = judge(series_of(40, {Channel.USS: lambda n: n * 65536.0}), explained=Explained(30))
    assert report.kind is Kind.MAPPING


@pytest.mark.parametrize(
    ("mapped", "verdict"), [(0.0, Verdict.STABLE), (6500.0, Verdict.LEAKING), (None, Verdict.LEAKING)]
)
def test_pages_that_were_mapped_before_end_some_time(mapped: float | None, verdict: Verdict) -> None:
    """Private memory that grows alone leaks only if the address space grows with it, as far as that is known."""
    series = series_of(40, {Channel.USS: lambda n: n * 6500})
    assert judge(series, explained=Explained(30, mapped_bytes=mapped)).verdict is verdict


def test_garbage_that_nobody_collects_is_a_cycle_leak() -> None:
    """With the collector off, what a collection at the end takes back was garbage."""
    channels = {Channel.BLOCKS: lambda n: n * 78.0, Channel.OBJECTS: lambda n: n * 2.0}
    report = judge(series_of(40, channels, collecting=False, found=80))
    assert (report.verdict, report.kind) == (Verdict.LEAKING, Kind.CYCLE)


def test_a_single_step_is_told_as_one() -> None:
    """A table that is loaded late shows as a step in its channel."""
    report = judge(series_of(200, {Channel.LIVE: lambda n: 5e6 * (n > 120)}, block=15))
    finding = report.finding(Channel.LIVE)
    assert finding is not None
    assert (report.verdict, finding.shape) == (Verdict.STABLE, Shape.STEP)
