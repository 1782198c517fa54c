"""Doing less where memory or disk has no room for all: what is left out, that it is told, and that it can be forbidden."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from os import environ, geteuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes

from memguard.errors import CapacityExceeded
from memguard.estimate import Relief
from memguard.log import preserved_logging
from memguard.units import MIB
from memguard_integrations.autofeat.engine import AutoFeatClassifier, AutoFeatRegressor, LightMode
from memguard_integrations.autofeat.engine.estimators.watching import FitWatch, watched
from memguard_integrations.autofeat.engine.planning import choosing
from memguard_integrations.autofeat.engine.planning.choosing import Forecast, forecast, some_rows
from memguard_integrations.autofeat.engine.planning.screen import Screen
from memguard_integrations.autofeat.engine.scratch import ScratchFull

ALL = ("1/", "exp", "log", "abs", "sqrt", "^2", "^3")


@pytest.fixture(scope="module")
def table() -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    """Patients, ten times over with a little noise, so that there is something to leave out: 4,420 rows x 3."""
    loaded = load_diabetes(as_frame=True, scaled=False)
    random = np.random.RandomState(0)
    columns = loaded.data[["bmi", "bp", "s5"]]
    frame = pd.concat(
        [columns * (1 + 0.01 * random.rand(*columns.shape)) for _ in range(10)], ignore_index=True
    )
    return frame, np.tile(loaded.target.to_numpy(), 10) + random.rand(len(frame))


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scratch directory with next to nothing free, as a forecast sees it."""
    monkeypatch.setattr(choosing, "scratch_free_bytes", lambda folder: MIB // 16)


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """Events go to the log; it is left as it was."""
    with preserved_logging():
        yield


@pytest.mark.usefixtures("full_disk")
def test_what_cannot_be_had_is_done_light_and_told(table: tuple[pd.DataFrame, Any]) -> None:
    """Where memory and disk have no room a warning says what is left out and why, with figures; the model has all rows."""
    frame, target = table
    model = AutoFeatRegressor(feateng_steps=2, featsel_runs=1, memory="34MiB")
    with pytest.warns(LightMode) as caught:
        made = model.fit_transform(frame, target)
    told = caught[0].message
    assert isinstance(told, LightMode)
    assert told.left_out == model.left_out_
    assert "of 4,420 rows, drawn at random" in model.left_out_[0]
    assert told.needed_bytes > told.had_bytes > 0
    assert "it would have needed" in str(told)
    assert caught[0].filename == __file__
    assert len(made) == len(frame)
    assert model.score(frame, target) > 0.3
    assert str(pickle.loads(pickle.dumps(told))) == str(told)


@pytest.mark.usefixtures("full_disk")
def test_never_refuses_with_figures(table: tuple[pd.DataFrame, Any]) -> None:
    """With light_mode="never" the same fit does not begin, and the error says how much is needed where."""
    with pytest.raises(ScratchFull, match=r"64 KiB free, and up to [\d.]+ [KM]iB more are needed") as caught:
        AutoFeatRegressor(featsel_runs=1, memory="34MiB", light_mode="never").fit(*table)
    assert caught.value.needed_bytes > caught.value.free_bytes


def test_where_there_is_room_nothing_is_left_out(table: tuple[pd.DataFrame, Any]) -> None:
    """With room for all, on disk too, both modes and no bound at all give the same columns and no warning."""
    frame, target = table
    found = [
        AutoFeatRegressor(feateng_steps=1, featsel_runs=1, memory=memory, light_mode=mode).fit(frame, target)
        for memory, mode in ((None, "auto"), ("34MiB", "auto"), ("34MiB", "never"))
    ]
    assert [model.left_out_ for model in found] == [()] * 3
    assert found[0].good_cols_ == found[1].good_cols_ == found[2].good_cols_


def test_classes_that_cannot_be_copied_are_selected_light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of rows for classes need memory whatever the disk has: light mode makes them smaller, never refuses."""
    frame, target = load_breast_cancer(return_X_y=True, as_frame=True)
    frame, target = pd.concat([frame.iloc[:, :2]] * 2, ignore_index=True), np.tile(target.to_numpy(), 2)
    monkeypatch.setattr(choosing, "copied_bytes", _inflated := lambda *wish: 100 * _copied(*wish))
    monkeypatch.setattr("memguard_integrations.autofeat.engine.planning.needs.copied_bytes", _inflated)
    arguments: dict[str, Any] = {"feateng_steps": 1, "featsel_runs": 1, "memory": "1MiB"}
    with pytest.warns(LightMode):
        assert AutoFeatClassifier(**arguments).fit(frame, target).left_out_
    with pytest.raises(CapacityExceeded, match="copies rows of"):
        AutoFeatClassifier(**arguments, light_mode="never").fit(frame, target)


_copied = choosing.copied_bytes


def test_a_fit_that_is_asked_for_less_on_its_way_does_less(table: tuple[pd.DataFrame, Any]) -> None:
    """Pressure in the midst of a fit makes it begin anew with less, once; with "never" it goes on."""
    frame, target = table
    asked = iter([False, True])
    with (
        watched(FitWatch(is_short=lambda: next(asked, False))),
        pytest.warns(LightMode, match="memory ran short on the way: it would have needed [^,]*$"),
    ):
        model = AutoFeatRegressor(feateng_steps=2, featsel_runs=1).fit(frame, target)
    assert model.left_out_
    with watched(FitWatch(is_short=lambda: True)):
        assert (
            not AutoFeatRegressor(feateng_steps=1, featsel_runs=1, light_mode="never")
            .fit(frame, target)
            .left_out_
        )


def test_a_fit_that_cannot_do_less_goes_on_under_pressure(table: tuple[pd.DataFrame, Any]) -> None:
    """Asked for less for ever, a fit ends all the same."""
    frame, target = table
    with watched(FitWatch(is_short=lambda: True)), warnings.catch_warnings():
        warnings.simplefilter("ignore", LightMode)
        model = AutoFeatRegressor(feateng_steps=1, featsel_runs=1).fit(frame.iloc[:60], target[:60])
    assert model.score(frame, target) > 0.2


@pytest.mark.parametrize("memory", [None, "100MiB"])
def test_each_new_beginning_does_less(
    table: tuple[pd.DataFrame, Any], monkeypatch: pytest.MonkeyPatch, memory: str | None
) -> None:
    """Asked for less for ever, no try does what one before it did, each is told, and the engine gets a lower bound."""
    tries: list[tuple[Any, ...]] = []
    bounds: list[int | None] = []
    choose = choosing.fitting.choose

    def told(frame: Any, target: Any, start: Any, request: Any) -> Any:
        tries.append((len(frame), request.steps, request.transformations, request.accepts))
        bounds.append(request.guards.memory_bytes)
        return choose(frame, target, start, request)

    monkeypatch.setattr(choosing.fitting, "choose", told)
    with watched(FitWatch(is_short=lambda: True)), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LightMode)
        model = AutoFeatRegressor(feateng_steps=2, featsel_runs=1, memory=memory).fit(*table)
    said = [each.message.left_out for each in caught if isinstance(each.message, LightMode)]
    assert len(tries) == len(set(tries)) == len(said) + 1 > 2
    assert len(said) == len(set(said))
    assert said[-1] == model.left_out_
    assert bounds[0] == (memory and 100 * MIB)
    assert bounds[1] is not None
    assert memory is None or bounds[1] == 50 * MIB


def test_where_nothing_is_less_a_fit_is_not_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for less where nothing can be left out, a fit goes on where it is, and nothing is told."""
    tries: list[int] = []
    choose = choosing.fitting.choose
    monkeypatch.setattr(choosing.fitting, "choose", lambda *given: (tries.append(1), choose(*given))[1])
    frame = pd.DataFrame({"a": np.arange(1.0, 61.0)})
    with watched(FitWatch(is_short=lambda: True)):
        AutoFeatRegressor(feateng_steps=1, featsel_runs=1, transformations=("^2",)).fit(
            frame, frame["a"] ** 2
        )
    assert tries == [1]


def test_a_full_disk_is_done_without_where_memory_has_room(
    table: tuple[pd.DataFrame, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Columns that were to go to a disk that turns out full stay in memory if selection's share has room for them."""
    frame, target = table
    tries: list[int | None] = []
    choose = choosing.fitting.choose

    def first_full(*given: Any) -> Any:
        tries.append(given[3].guards.selection_bytes)
        if len(tries) == 1:
            raise ScratchFull(path="/scratch", needed_bytes=30 * MIB, free_bytes=0)
        return choose(*given)

    monkeypatch.setattr(choosing.fitting, "choose", first_full)
    model = AutoFeatRegressor(feateng_steps=2, featsel_runs=1, memory="100MiB", light_mode="never")
    assert not model.fit(frame, target).left_out_
    assert tries == [None, 16 * MIB]


def test_columns_chosen_on_some_rows_are_finite_on_all(table: tuple[pd.DataFrame, Any]) -> None:
    """A column that some rows have no finite value of is left out, and not refused, where rows were left out."""
    frame, target = table
    frame = frame.copy()
    chosen = some_rows(target, 1_000, classes=False)
    unseen = np.setdiff1d(np.arange(len(frame)), chosen)
    frame.loc[unseen[:3], ["bmi", "bp", "s5"]] = 0.0
    with forecast(Forecast(None, Relief(2, ALL, select_rows=1_000))):
        made = AutoFeatRegressor(feateng_steps=2, featsel_runs=1).fit_transform(frame, target)
    assert np.isfinite(made.to_numpy()).all()


def test_the_screen_takes_what_explains_what_is_left() -> None:
    """Of columns the screen takes as many as it may, those that explain what the given ones do not, and those only."""
    random = np.random.RandomState(0)
    frame = pd.DataFrame(random.rand(500, 2), columns=["a", "b"])
    hidden = ((frame["a"] - 0.5) * (frame["b"] - 0.5)).to_numpy(np.float32)
    columns = [random.rand(500).astype(np.float32) for _ in range(20)]
    columns[7] = hidden
    columns[9] = frame["a"].to_numpy(np.float32)
    for classes in (False, True):
        target = (hidden > 0).astype(int) if classes else hidden + frame["a"].to_numpy()
        screen = Screen(frame, target, classes=classes, most=1)
        assert sum(screen.score(each) for each in columns) == 0
        screen.close()
        assert [place for place, each in enumerate(columns) if screen.takes(each)] == [7]


def test_rows_are_drawn_by_class() -> None:
    """Of each class the same share of rows is taken, of a rare one at least five, always the same."""
    target = np.array([0] * 900 + [1] * 90 + [2] * 10)
    rows = some_rows(target, 100, classes=True)
    assert np.bincount(target[rows]).tolist() == [90, 9, 5]
    assert (rows == some_rows(target, 100, classes=True)).all()
    assert some_rows(target, 5_000, classes=True).tolist() == list(range(1000))


_PROGRAM = """
import json, os, sys, warnings
sys.path[:0] = {path!r}
import numpy as np, pandas as pd
from memguard_integrations.autofeat.engine import AutoFeatRegressor, LightMode
from memguard_integrations.autofeat.engine import columns
from memguard_integrations.autofeat.engine.scratch import ScratchFull
random = np.random.RandomState(0)
frame = pd.DataFrame(random.rand(6000, 4) + 0.5, columns=list("abcd"))
target = (frame["a"] * frame["b"] + 0.1 * random.rand(6000)).to_numpy()
told = {{}}
from memguard_integrations.autofeat.engine.planning import choosing
honest = choosing.scratch_free_bytes
asked = []
def free_bytes(folder):  # the disk looks empty before the start, and is full on the way
    asked.append(10**12 if not asked else honest(folder))
    return asked[-1]
choosing.scratch_free_bytes = free_bytes
for mode in ("never", "auto", "forecast"):
    asked[:] = [0] if mode == "forecast" else []
    light_mode = "auto" if mode == "forecast" else mode
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = AutoFeatRegressor(feateng_steps=2, featsel_runs=1, memory="34MiB", scratch_dir={scratch!r}, light_mode=light_mode)
            model.fit(frame, target)
            told[mode] = [list(model.left_out_), model.score(frame, target), [type(each.message).__name__ for each in caught]]
        except ScratchFull as error:
            told[mode] = [str(error), error.path, error.needed_bytes]
    free = os.statvfs({scratch!r})
    told[mode].append(free.f_bavail * free.f_frsize)
    told[mode].append(asked[-1])
print(json.dumps(told))
"""


def test_a_disk_that_fills_up_on_the_way(tmp_path: Path) -> None:
    """A real full disk stops the fit with nothing left on it, or has it done light: with as much as had it been foreseen."""
    if geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a small file system needs root and unshare")
    import json

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    program = _PROGRAM.format(path=[each for each in sys.path if each], scratch=str(scratch))
    script = f'mount -t tmpfs -o size=3m none {scratch} && exec {sys.executable} -W ignore -c "$PROGRAM"'
    done = subprocess.run(
        ["unshare", "--mount", "--propagation=private", "/bin/sh", "-c", script],
        env={**environ, "PROGRAM": program},
        capture_output=True,
        text=True,
        check=False,
    )
    if "mount" in done.stderr and done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    message, path, needed, free, _ = told["never"]
    assert path == str(scratch)
    assert "more are needed" in message
    assert "scratch_dir=" in message
    assert needed > 3 * MIB
    assert free > 2.9 * MIB
    left_out, score, caught, free, asked = told["auto"]
    # What the first try held is let go of before it is asked: as much as the forecast would have left out.
    assert asked > 2.9 * MIB
    assert left_out == told["forecast"][0] != []
    assert score > 0.9
    assert "LightMode" in caught
    assert free > 2.9 * MIB
