"""The probe reads seven channels, allocates nothing that stays, and leaves the collector as it was."""

from __future__ import annotations

import ctypes
import gc
import math
import mmap
import os
import threading

import pytest

from memguard.leaks.records import Channel
from memguard.leaks.sampler import Sampler, tracked_objects_now
from memguard.leaks.series import CHANNELS, Series


def reading(sampler: Sampler, channel: Channel) -> float:
    sampler.probe()
    return sampler.series.last(CHANNELS.index(channel))


@pytest.fixture
def sampler() -> Sampler:
    return Sampler(Series(4096, 16))


def test_what_malloc_gives_out_is_seen_to_the_byte(sampler: Sampler) -> None:
    """A block of malloc moves the live channel by its size and a header, and its return moves it back."""
    if not sampler.can_read_malloc:
        pytest.skip("another allocator serves this process")
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    before = reading(sampler, Channel.LIVE)
    blocks = [libc.malloc(100_000) for _ in range(10)]
    assert reading(sampler, Channel.LIVE) - before == pytest.approx(1e6, rel=0.02)
    for block in blocks:
        libc.free(block)
    assert abs(reading(sampler, Channel.LIVE) - before) < 20_000


def test_private_mappings_are_seen(sampler: Sampler) -> None:
    """Memory mapped past malloc shows in private memory and not in malloc's books."""
    before = {c: reading(sampler, c) for c in (Channel.USS, Channel.LIVE)}
    size = 8 * 1024**2
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        for place in range(0, size, 4096):
            area[place] = 1
        assert reading(sampler, Channel.USS) - before[Channel.USS] > 0.9 * size
        assert reading(sampler, Channel.LIVE) - before[Channel.LIVE] < 0.1 * size


def test_descriptors_and_threads_are_counted(sampler: Sampler) -> None:
    """Five open descriptors and three threads more are five and three more."""
    fds, threads = reading(sampler, Channel.FDS), reading(sampler, Channel.THREADS)
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]
    go_on = threading.Event()
    started = [threading.Thread(target=go_on.wait) for _ in range(3)]
    for each in started:
        each.start()
    try:
        assert reading(sampler, Channel.FDS) - fds == 5
        assert reading(sampler, Channel.THREADS) - threads == 3
    finally:
        go_on.set()
        for each in started:
            each.join()
        for descriptor in opened:
            os.close(descriptor)
    assert reading(sampler, Channel.FDS) == fds


def test_shared_memory_of_this_process_is_counted(sampler: Sampler) -> None:
    """A file in /dev/shm that came since counts with the pages that it has, also when it is closed."""
    path = f"/dev/shm/memguard-test-{os.getpid()}"
    before = reading(sampler, Channel.SHARED)
    with open(path, "wb") as file:
        file.write(bytes(100_000))
    try:
        assert reading(sampler, Channel.SHARED) - before >= 100_000
    finally:
        os.unlink(path)


def test_a_probe_keeps_nothing(sampler: Sampler) -> None:
    """A thousand probes leave no block each: a handful more than ten did."""
    for _ in range(10):
        sampler.probe()
    place = CHANNELS.index(Channel.BLOCKS)
    before = sampler.series.last(place)
    for _ in range(1000):
        sampler.probe()
    # A few are what the interpreter itself makes of code that has become hot.
    assert sampler.series.last(place) - before <= 10


def test_counting_objects_changes_nothing() -> None:
    """The count rises by what is made, no object stays frozen, and what the program froze stays so."""
    gc.collect()
    before = tracked_objects_now()
    made = [[number] for number in range(1000)]
    assert tracked_objects_now() - before >= len(made)
    assert gc.get_freeze_count() == 0
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        assert tracked_objects_now() >= frozen
        assert gc.get_freeze_count() == frozen
    finally:
        gc.unfreeze()


def test_garbage_is_not_taken_from_a_program_that_collects_none(sampler: Sampler) -> None:
    """With the collector off the end of a block leaves cycles alone, and the end of all tells how many there were."""
    gc.collect()
    gc.disable()
    try:
        for _ in range(100):
            cycle: list[object] = []
            cycle.append(cycle)
        del cycle
        sampler.probe()
        sampler.end_block()
        sampler.end_block(last=True)
    finally:
        gc.enable()
    first, last = sampler.series.ends()
    assert (first.collecting, first.found) == (False, 0)
    assert last.found >= 100
    assert last.before[Channel.OBJECTS] - last.after[Channel.OBJECTS] >= 100


def test_a_full_series_keeps_the_lower_of_two() -> None:
    """When samples are full each two become one, the lower stays, and memory does not grow."""
    series = Series(8, 4)
    for number in range(20):
        series.put(0, float(number % 2 * 100 + number))
        series.advance()
    assert series.stride == 4
    assert series.cells == 5
    assert list(series.samples(Channel.USS)) == [0.0, 4.0, 8.0, 12.0, 16.0]


def test_a_series_survives_a_file(sampler: Sampler) -> None:
    """Written and read back it is the same, ends of blocks included."""
    for _ in range(3):
        sampler.probe()
    sampler.end_block()
    again = Series.from_json(sampler.series.to_json())
    assert again.iterations == 3
    assert again.samples(Channel.BLOCKS) == sampler.series.samples(Channel.BLOCKS)
    assert again.ends()[0].after[Channel.USS] == sampler.series.ends()[0].after[Channel.USS]
    assert math.isnan(again.samples(Channel.OBJECTS)[0])


class _Anything:
    """Has no attribute."""


def test_names_that_the_interpreter_remembers_are_no_growth(sampler: Sampler) -> None:
    """Attributes that are looked up by names made up for it leave nothing behind at the end of a block."""
    thing = _Anything()
    kept = []
    for turn in range(3):
        for number in range(500):
            getattr(thing, f"made_up_{turn}_{number}", None)
        sampler.end_block()
        kept.append(sampler.series.newest_end().kept[Channel.BLOCKS])
    assert abs(kept[2] - kept[1]) < 50
