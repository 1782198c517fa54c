"""The expansion as a tool: budgets, disk, threads, progress, units, refusals, and that nothing stays behind."""

from __future__ import annotations

import gc
import logging
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from memguard.units import MIB
from memguard_integrations.autofeat.engine.columns import ColumnStore, shared_pool
from memguard_integrations.autofeat.engine.expansion import (
    Expansion,
    ExpansionProgress,
    engineer_features,
    expand,
)
from memguard_integrations.autofeat.engine.kernels import operations
from memguard_integrations.autofeat.engine.scratch import ScratchFull
from tests.support.expansions import ALL_TRANSFORMATIONS
from tests.support.small_disks import small_disk_of


def table(rows: int = 3000, columns: int = 4) -> pd.DataFrame:
    """Return a table whose columns can be transformed in most ways."""
    rng = np.random.default_rng(rows)
    return pd.DataFrame({f"c{n}": rng.lognormal(sigma=0.5, size=rows) for n in range(columns)})


def matrix(expansion: Expansion) -> np.ndarray[Any, Any]:
    return np.stack([expansion.columns.column(index) for index in range(len(expansion.columns))])


def left_over() -> tuple[int, list[str]]:
    """Return how many descriptors and which threads there are, once garbage is gone and no block lies idle."""
    gc.collect()
    shared_pool().shed(1 << 40)
    return len(os.listdir("/proc/self/fd")), sorted(thread.name for thread in threading.enumerate())


def test_threads_and_budgets_do_not_change_the_result(tmp_path: Path) -> None:
    """One thread or three, in memory, on disk or half and half: the same names, bits and formulas."""
    frame = table(12_000, 3)
    with expand(frame, max_steps=2, threads=1) as plain:
        expected = matrix(plain)
        for threads, memory in ((3, None), (1, 0), (3, 36 * MIB)):
            with expand(
                frame, max_steps=2, threads=threads, memory_bytes=memory, scratch_dir=tmp_path
            ) as other:
                assert other.names == plain.names
                assert other.formulas == plain.formulas
                assert matrix(other).tobytes() == expected.tobytes()
                assert isinstance(other.columns, ColumnStore)
                assert (other.columns.spilled_bytes > 0) == (memory is not None)
        assert list(tmp_path.iterdir()) == []


def test_three_steps_on_disk_are_those_in_memory(tmp_path: Path) -> None:
    """Columns that only others are made from may be on disk too, and are freed before the end."""
    frame = table(600, 2)
    told: list[ExpansionProgress] = []
    with (
        expand(frame, max_steps=3) as plain,
        expand(frame, max_steps=3, memory_bytes=0, scratch_dir=tmp_path, on_progress=told.append) as spilled,
    ):
        assert matrix(spilled).tobytes() == matrix(plain).tobytes()
    assert [each.step for each in told] == sorted(each.step for each in told)
    assert told[-1].step == told[-1].steps == 3
    assert told[-1].columns == len(plain.names)
    assert told[-1].tried >= len(plain.formulas) - 2


def test_the_frame_is_the_stores_memory_and_has_the_index() -> None:
    """No copy of the matrix is made, the index is kept, also one that repeats itself, and blocks live with the frame."""
    frame = table(2000).set_axis([7] * 2000)
    made, formulas = engineer_features(frame, max_steps=2)
    assert made.index.equals(frame.index)
    assert set(made.dtypes) == {np.dtype(np.float32)}
    assert list(made.columns[:4]) == list(frame.columns)
    assert set(made.columns[4:]) <= set(formulas)
    owned = [block.values.flags.owndata for block in made._mgr.blocks]  # type: ignore[attr-defined]
    assert not any(owned)
    first = made["c0"].to_numpy().copy()
    gc.collect()
    assert np.array_equal(made["c0"].to_numpy(), first)
    again = pickle.loads(pickle.dumps((made, formulas)))
    pd.testing.assert_frame_equal(again[0], made)
    assert again[1] == formulas


def test_fifty_expansions_leave_nothing() -> None:
    """After the first few, neither memory nor descriptors nor threads nor compiled functions grow."""
    program = """
import gc, os, threading
import numpy as np, pandas as pd
from memguard.host import read_process_memory
from memguard_integrations.autofeat.engine.columns import shared_pool
from memguard_integrations.autofeat.engine.expansion import engineer_features
from memguard_integrations.autofeat.engine.kernels import machine_code
rng = np.random.default_rng(0)
frames = [pd.DataFrame(rng.lognormal(size=(400 + 10 * n, 2)), columns=["a", f"c{n % 5}"]) for n in range(50)]
def one(frame):
    engineer_features(frame, max_steps=2)
def state():
    gc.collect()
    shared_pool().shed(1 << 40)
    return read_process_memory(os.getpid()).private_bytes, len(os.listdir("/proc/self/fd")), threading.active_count()
for frame in frames[:10] * 2:
    one(frame)
before = state()
for frame in frames:
    one(frame)
after = state()
print(after[0] - before[0], after[1] - before[1], after[2] - before[2], len(machine_code._engines))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    grown, descriptors, threads, loaded = map(int, done.stdout.split())
    assert grown < 2 * MIB
    assert (descriptors, threads) == (0, 0)
    assert loaded == 1


class StoppedError(Exception):
    """Raised by a listener in the midst of the work."""


@pytest.mark.parametrize("error", [StoppedError, KeyboardInterrupt])
def test_an_interrupted_expansion_leaves_nothing(error: type[BaseException], tmp_path: Path) -> None:
    """Whatever ends it half-way, its threads, blocks and scratch files are gone."""
    frame = table(20_000, 4)
    with expand(frame, max_steps=1):
        pass

    def stop(told: ExpansionProgress) -> None:
        if told.step == 2:
            raise error

    before = left_over()
    for memory in (None, 0):
        with pytest.raises(error):
            expand(frame, max_steps=2, threads=2, memory_bytes=memory, scratch_dir=tmp_path, on_progress=stop)
    assert left_over() == before
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four MiB."""
    with small_disk_of(4 * MIB, tmp_path) as small:
        yield small


def test_a_scratch_directory_that_fills_up_stops_it_cleanly(small_disk: Path) -> None:
    """The error says how much is lacking for all of the step, and the directory is empty again."""
    frame = table(20_000, 4)
    with pytest.raises(ScratchFull) as told:
        expand(frame, max_steps=2, memory_bytes=0, scratch_dir=small_disk)
    assert told.value.path == str(small_disk)
    with expand(frame, max_steps=2) as enough:
        lacking = (len(enough.names) - 4 * MIB // (4 * 20_000)) * 4 * 20_000
    assert told.value.needed_bytes >= lacking * 0.9
    space = os.statvfs(small_disk)
    assert space.f_bfree == space.f_blocks


def test_a_killed_expansion_leaves_no_scratch_file(tmp_path: Path) -> None:
    """What is on disk has no name, so that not even kill -9 leaves any of it."""
    program = f"""
import os, signal
import numpy as np, pandas as pd
from memguard_integrations.autofeat.engine.expansion import expand
def killed(told):
    if told.step == 2 and told.stored_bytes > 2**20:
        os.kill(os.getpid(), signal.SIGKILL)
frame = pd.DataFrame(np.random.default_rng(0).lognormal(size=(4000, 4)), columns=list("abcd"))
expand(frame, max_steps=2, memory_bytes=0, scratch_dir={str(tmp_path)!r}, on_progress=killed)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert done.returncode == -9, done.stderr.decode()
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_expanded_is_refused() -> None:
    """Unknown columns and transformations, shared labels, infinite values and names that are taken have their errors."""
    frame = table(50)
    with pytest.raises(ValueError, match="no columns \\['q'\\]"):
        engineer_features(frame, start_features=["c0", "q"])
    with pytest.raises(ValueError, match="no columns \\['q'\\]"):
        engineer_features(frame, start_features=["q"], max_steps=0)
    with pytest.raises(KeyError, match="cube"):
        engineer_features(frame, transformations=("cube",))
    with pytest.raises(ValueError, match="share a label: c0"):
        engineer_features(frame[["c0", "c0"]])
    with pytest.raises(ValueError, match="infinity"):
        engineer_features(frame.assign(c3=np.inf), max_steps=1)
    with pytest.raises(ValueError, match="label of a given one"):
        engineer_features(frame.rename(columns={"c1": "c0**2"}), start_features=["c0"], max_steps=1)


def test_no_steps_give_the_frame_itself(caplog: pytest.LogCaptureFixture) -> None:
    """Below one step nothing is made or converted, and that is said where it is wanted."""
    frame = table(50)
    with caplog.at_level(logging.INFO, "memguard.autofeat"):
        made, formulas = engineer_features(frame, max_steps=0, verbose=1)
    assert made is frame
    assert [str(formula) for formula in formulas.values()] == list(frame.columns)
    assert "0 steps" in caplog.text


def test_the_steps_are_logged_where_that_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    """With verbose each step says what it does; without, nothing is said."""
    with caplog.at_level(logging.INFO, "memguard.autofeat"):
        engineer_features(table(50), max_steps=2)
        assert not caplog.records
        engineer_features(table(50), max_steps=2, verbose=1)
    assert [text for text in caplog.messages if text.startswith("step 1")]
    assert [text for text in caplog.messages if text.startswith("step 2: combining")]


def test_every_operation_has_its_code() -> None:
    """What can be asked for is what the kernels know, in the order of their branches."""
    assert set(ALL_TRANSFORMATIONS) == set(operations.TRANSFORMATIONS)
    assert list(operations.OPERATIONS) == [*operations.TRANSFORMATIONS, *operations.COMBINATIONS]
