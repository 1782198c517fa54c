"""What tells jobs apart: alike where they do the same with other data, by sizes and never by values."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC

from memguard.forecasting import likeness_of_call, likeness_of_command
from memguard.sizing import TAKEN


def work(table: object, rows: int = 0, *, fast: bool = False) -> None:
    """Stand for a job."""


def test_the_same_function_is_one_kind_and_its_sizes_are_features() -> None:
    """Two calls differ by what they are given and by nothing else."""
    small = likeness_of_call(work, (np.zeros((10, 3)), 5))
    large = likeness_of_call(work, (np.zeros((1000, 3)), 7))
    assert small.kind == large.kind
    assert small.world == large.world
    assert small.features == {"input_bytes": 240.0, "rows": 10.0, "columns": 3.0, "argument 1": 5.0}
    assert large.features["rows"] == 1000.0


def test_what_is_inside_a_partial_counts() -> None:
    """A partial is its function with its arguments, however it was put together."""
    table = np.zeros(8)
    assert likeness_of_call(functools.partial(work, table, 5)) == likeness_of_call(work, (table, 5))


def test_switches_make_another_kind() -> None:
    """A switch chooses what is done: it is no size."""
    assert (
        likeness_of_call(work, (1,), {"fast": True}).kind
        != likeness_of_call(work, (1,), {"fast": False}).kind
    )


@pytest.mark.parametrize(
    ("table", "least_bytes"),
    [
        (pd.DataFrame({"a": range(100), "b": "word"}), 1600),
        (sparse.random(100, 50, density=0.1, format="csr"), 4000),
        ([np.zeros(100), {"deep": np.zeros(100)}], 1600),
        (b"x" * 500, 500),
    ],
    ids=["frame", "sparse", "nested", "bytes"],
)
def test_tables_of_all_sorts_have_bytes(table: object, least_bytes: int) -> None:
    """Whatever holds data is counted, also inside lists and mappings."""
    assert likeness_of_call(work, (table,)).features["input_bytes"] >= least_bytes


def test_a_file_that_is_named_counts_by_its_size(tmp_path: Path) -> None:
    """A path is known by what lies there, not by how it is called."""
    (tmp_path / "a.csv").write_bytes(b"x" * 12345)
    assert likeness_of_call(work, (tmp_path / "a.csv",)).features["input_bytes"] == 12345.0


def test_an_estimator_is_its_class_with_its_choices() -> None:
    """Words of its parameters make kinds, numbers are features, chance and talk are neither."""
    x, y = np.zeros((20, 2)), np.zeros(20)
    ten = likeness_of_call(RandomForestRegressor(n_estimators=10, random_state=1).fit, (x, y))
    many = likeness_of_call(RandomForestRegressor(n_estimators=500, verbose=2).fit, (x, y))
    assert ten.kind == many.kind
    assert "RandomForestRegressor.fit" in ten.kind
    assert (ten.features["n_estimators"], many.features["n_estimators"]) == (10.0, 500.0)
    assert (
        likeness_of_call(SVC(kernel="rbf").fit, (x, y)).kind
        != likeness_of_call(SVC(kernel="linear").fit, (x, y)).kind
    )


def test_a_kind_names_what_is_not_usual() -> None:
    """A parameter as it is without being named makes no kind; a bound where there is none does, at any number."""
    x, y = np.zeros((20, 2)), np.zeros(20)
    plain = likeness_of_call(RandomForestRegressor().fit, (x, y))
    named = likeness_of_call(RandomForestRegressor(bootstrap=True, criterion="squared_error").fit, (x, y))
    assert plain == named
    assert plain.kind.endswith("RandomForestRegressor.fit")
    shallow = likeness_of_call(RandomForestRegressor(max_depth=3).fit, (x, y))
    deeper = likeness_of_call(RandomForestRegressor(max_depth=9).fit, (x, y))
    assert plain.kind != shallow.kind == deeper.kind
    assert (shallow.features["max_depth"], deeper.features["max_depth"]) == (3.0, 9.0)
    assert likeness_of_call(RandomForestRegressor(n_jobs=-1).fit, (x, y)).kind.endswith("n_jobs=-1")


def test_parts_of_an_estimator_are_asked_too() -> None:
    """What somebody chose for a step counts before all that is as usual, however many steps there are."""
    steps = [(f"a{number}", RandomForestRegressor()) for number in range(5)]
    model = Pipeline([*steps, ("z", SVC(kernel="linear", C=7.0))])
    found = likeness_of_call(model.fit, (np.zeros((4, 2)), np.zeros(4)))
    assert found.features["z__C"] == 7.0
    assert "z__kernel=linear" in found.kind
    assert "gamma" not in found.kind


class Engine(BaseEstimator):
    """Stands for an estimator that is told what to try by a list of words."""

    def __init__(self, tries: tuple[str, ...] = ()) -> None:
        self.tries = tries

    def fit(self, x: object) -> None:
        """Do nothing."""


def test_a_list_of_words_counts_by_its_length() -> None:
    """How many transformations are tried is a size: it makes no kind of its own for each choice of them."""
    two, three = (likeness_of_call(Engine(tuple(each)).fit, (np.zeros(3),)) for each in ("ab", "cde"))
    assert two.kind == three.kind
    assert (two.features["tries"], three.features["tries"]) == (2.0, 3.0)


@dataclass
class Plan:
    """Stands for the settings of a job."""

    steps: int
    thorough: bool
    tries: tuple[str, ...]


def test_records_are_looked_into() -> None:
    """Numbers and counts in a record are features, its switches make kinds."""
    found = likeness_of_call(work, (Plan(2, True, ("a", "b")),))
    assert (found.features["steps"], found.features["tries"]) == (2.0, 2.0)
    assert found.kind != likeness_of_call(work, (Plan(2, False, ("a", "b")),)).kind


def test_what_a_function_takes_along_is_an_argument() -> None:
    """Data that is not passed but closed over is what the function works on; two lambdas are two kinds."""

    def sums(table: np.ndarray) -> tuple[object, object]:
        return (lambda: table.sum() + 1), (lambda: table.max() - table.min())

    (one, other), (again, _) = sums(np.zeros((100, 4))), sums(np.zeros((7, 4)))
    first, second = likeness_of_call(one), likeness_of_call(again)  # type: ignore[arg-type]
    assert (first.features["rows"], second.features["rows"]) == (100.0, 7.0)
    assert first.kind == second.kind != likeness_of_call(other).kind  # type: ignore[arg-type]


def test_numbers_of_numpy_are_numbers() -> None:
    """A count that came out of an array is the same count."""
    assert likeness_of_call(work, (np.int64(5), np.float32(2))) == likeness_of_call(work, (5, 2.0))


def test_a_function_of_a_program_is_told_by_the_program(tmp_path: Path) -> None:
    """Two scripts with a function of the same name are two kinds; a module that is run is told by its name."""
    words = "from memguard.forecasting import likeness_of_call\ndef f(): ...\nprint(likeness_of_call(f).kind)"
    told = []
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(words)
        told.append(subprocess.check_output([sys.executable, tmp_path / f"{name}.py"], text=True).strip())
    assert told == [f"{tmp_path.resolve() / name}.py.f" for name in ("one", "two")]


class Hostile:
    """Raises at whatever it is asked."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)

    def __call__(self) -> None:
        """Do nothing."""


def test_hostile_objects_count_for_nothing() -> None:
    """What raises when it is looked at keeps no job from running, nor do cycles and huge numbers."""
    cycle: list[object] = []
    cycle.append(cycle)
    found = likeness_of_call(work, (Hostile(), cycle, 10**400, float("nan"), -1, None))
    assert all(value >= 0 for value in found.features.values())
    assert likeness_of_call(Hostile()).kind == "Hostile"
    assert likeness_of_call(Engine(Hostile()).fit).kind  # type: ignore[arg-type]


def test_a_command_is_its_program_script_and_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count by size and numbers by their option; names that differ from run to run do not count."""
    monkeypatch.chdir(tmp_path)
    Path("train.py").touch()
    Path("data").mkdir()
    for name, size in (("data/a", 100), ("data/b", 200), ("one.csv", 50)):
        Path(name).write_bytes(b"x" * size)
    first = likeness_of_command(
        ["python3", "train.py", "data", "--rows", "100", "--model=boost", "--run-id=r17"]
    )
    second = likeness_of_command(
        ["python3", "train.py", "one.csv", "--rows", "900", "--model=boost", "--run-id=r18"]
    )
    assert first.kind == second.kind
    assert first.features == {"rows": 100.0, "input_bytes": 300.0, "files": 2.0}
    assert second.features == {"rows": 900.0, "input_bytes": 50.0, "files": 1.0}
    other = likeness_of_command(
        ["python3", "train.py", "one.csv", "--rows", "900", "--model=line", "--run-id=r18"]
    )
    assert other.kind != first.kind


@pytest.mark.parametrize(
    "command",
    [[""], ["no-such-program"], ["python3"], ["python3", "-c", "x" * 10**6], ["a", "\0", "-" * 5000]],
)
def test_any_command_has_a_kind(command: list[str]) -> None:
    """Nothing on a command line can make it fail, and a kind stays short."""
    assert len(likeness_of_command(command).kind) <= 1000


def test_targets_that_cannot_be_counted_cost_a_classifier_nothing_else() -> None:
    """Labels in a sparse matrix have no length: the call is of its own kind and has its sizes all the same."""
    table, labels = np.zeros((50, 4)), sparse.csr_matrix(np.eye(50, 3))
    found = likeness_of_call(RandomForestClassifier().fit, (table, labels))
    assert "RandomForestClassifier.fit" in found.kind
    assert found.features["rows"] == 50.0
    assert "classes" not in found.features


def test_a_folder_is_not_looked_through_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command waits for it: so many names are looked at, whether of files or of folders, and so many files count."""
    monkeypatch.setattr("memguard.forecasting.commands._MOST_NAMES", 50)
    monkeypatch.setattr("memguard.forecasting.commands._MOST_FILES", 20)
    for folder, files in (("flat", 30), ("deep/a/b", 10), ("empty", 0)):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(files):
            (tmp_path / folder / str(number)).write_bytes(b"xx")
    for number in range(100):
        (tmp_path / "empty" / str(number)).mkdir()
        (tmp_path / "empty" / str(number) / "inner").mkdir()
    looked, scan = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda place: looked.append(place) or scan(place))
    flat, deep, empty = (
        likeness_of_command(["sort", str(tmp_path / each)]).features for each in ("flat", "deep", "empty")
    )
    assert flat == {"input_bytes": 40.0, "files": 20.0}
    assert deep == {"input_bytes": 20.0, "files": 10.0}
    assert empty == {}
    assert len(looked) < 60


def test_secrets_are_no_part_of_a_kind() -> None:
    """What a report would strike is not kept under another name."""
    found = likeness_of_command(["curl", "--password", "hunter", "--token=abc"])
    assert "hunter" not in found.kind
    assert "abc" not in found.kind


class Reader(BaseEstimator):
    """An estimator that is told where its data are."""

    def __init__(self, place: str = "", header: str = "") -> None:
        self.place, self.header = place, header

    def fit(self, table: object) -> None:
        """Stand for a fit."""


def test_a_password_in_a_parameter_is_no_part_of_a_kind() -> None:
    """A parameter that chooses what is done may be an address; what a report would strike is struck in the kind."""
    reader = Reader("postgres://me:hunter2@host/table", "Authorization: Bearer abcdef123456")
    kind = likeness_of_call(reader.fit, ([1],)).kind
    assert "place=postgres://" in kind
    assert "hunter2" not in kind
    assert "abcdef" not in kind


def test_a_number_that_is_called_like_a_budget_is_none() -> None:
    """What a function or a program calls a request is a number like others, and caps no forecast."""
    of_call = likeness_of_call(work, (), {"request_bytes": 64, "prior_bytes": 3})
    of_command = likeness_of_command(["fetch", "--request_bytes", "64", "--preset_bytes=3"])
    assert not TAKEN & {*of_call.features, *of_command.features}
    assert sorted(of_call.features.values()) == sorted(of_command.features.values()) == [3.0, 64.0]


def test_nothing_of_the_arguments_can_be_read_where_all_are_struck(tmp_path: Path) -> None:
    """Runs are told apart all the same, by a checksum and by the sizes of files."""
    (tmp_path / "a").write_bytes(b"x" * 77)
    first, second = (
        likeness_of_command(["sort", "--by", word, "--rows=4711", str(tmp_path / "a")], redact="all")
        for word in ("plain", "other")
    )
    assert first.kind != second.kind
    assert "plain" not in first.kind
    assert first.features == {"input_bytes": 77.0, "files": 1.0}


def test_a_number_whose_name_says_secret_is_no_feature() -> None:
    """A key is no size, whatever it is made of."""
    assert likeness_of_call(work, (), {"api_key": 424242, "rows": 3}).features == {"rows": 3.0}


@pytest.mark.parametrize(
    "target",
    [
        np.arange(9000) % 7,
        pd.Series(np.arange(9000) % 7, index=range(5, 9005)),
        [str(each % 7) for each in range(9000)],
    ],
    ids=["array", "series", "words"],
)
def test_classes_are_counted_for_those_who_tell_them_apart(target: Any) -> None:
    """A classifier's trees and coefficients have a value for each; a regressor has no classes."""
    table = np.zeros((9000, 2))
    assert likeness_of_call(SVC().fit, (table, target)).features["classes"] == 7
    assert likeness_of_call(SVC().fit, (table,), {"y": target}).features["classes"] == 7
    assert "classes" not in likeness_of_call(RandomForestRegressor().fit, (table, target)).features
    assert "classes" not in likeness_of_call(SVC().predict, (table,)).features


def test_targets_that_cannot_be_counted_change_nothing_else() -> None:
    """A generator of targets has no classes that could be counted beforehand."""
    strange = likeness_of_call(SVC().fit, (np.zeros((4, 2)), iter([0, 1])))
    assert strange.features["rows"] == 4
    assert "classes" not in strange.features
