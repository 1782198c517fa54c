"""Kernels are compiled once for a machine; whoever comes later loads their code, and gets the same bits."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from memguard_integrations.autofeat.engine import kernels
from memguard_integrations.autofeat.engine.kernels import machine_code
from memguard_integrations.autofeat.engine.kernels.addresses import of_addresses

PROGRAM = """
import hashlib, sys
import numpy as np, pandas as pd
from memguard_integrations.autofeat.engine.expansion import engineer_features
from memguard_integrations.autofeat.engine.kernels import machine_code
{before}
frame = pd.DataFrame(np.random.default_rng(0).lognormal(size=(60, 2)), columns=["a", "b"])
made, _ = engineer_features(frame, max_steps=2)
print("numba" in sys.modules, hashlib.sha256(made.to_numpy().tobytes()).hexdigest())
"""


def told(before: str = "", **environment: str) -> list[str]:
    """Return whether a fresh process loaded numba, and a sum of what it engineered."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM.format(before=before)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_numba_is_not_loaded_where_it_has_compiled_before() -> None:
    """After one process has had kernels, another engineers without numba."""
    assert machine_code.functions() is not None
    assert told()[0] == "False"


@pytest.mark.heavy
def test_without_a_folder_or_a_known_numba_the_columns_are_the_same(tmp_path: Path) -> None:
    """Who can keep nothing compiles for itself; who does not know this numba has it compile functions of arrays."""
    usual = told()
    nowhere = told("machine_code._folders = lambda: iter(())")
    unknown = told("machine_code._key = lambda: {}['a numba that is not known']")
    assert [usual[0], nowhere[0], unknown[0]] == ["False", "True", "True"]
    assert usual[1] == nowhere[1] == unknown[1]


def test_a_damaged_file_is_not_loaded(tmp_path: Path) -> None:
    """A file with one bit turned, or cut off, is as none."""
    machine_code.functions()
    path = next(
        each for folder in machine_code._folders() for each in folder.glob(f"kernels-{machine_code._key()}.o")
    )
    content = bytearray(path.read_bytes())
    assert machine_code._loaded(path) is not None
    for damage in (bytes(content[:-1]), bytes([*content[:-9], content[-9] ^ 1, *content[-8:]])):
        damaged = tmp_path / "kernels.o"
        damaged.write_bytes(damage)
        assert machine_code._loaded(damaged) is None


@pytest.mark.heavy
def test_code_that_fails_its_trial_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What computes something else than numba gets no name, and its process goes on with numba's."""
    monkeypatch.setattr(machine_code, "_folders", lambda: iter([tmp_path]))
    monkeypatch.setattr(machine_code.trial, "told", lambda _: "something else")
    with caplog.at_level(logging.INFO, "memguard.autofeat"):
        assert machine_code.functions() is not None
    assert "is not what numba has" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_what_the_killed_left_is_swept(tmp_path: Path) -> None:
    """A half-made file goes once nobody can be at it any more; one that is being made stays, and the newest eight."""
    old, young = tmp_path / ".kernels-old", tmp_path / ".kernels-young"
    for each in (old, young):
        each.touch()
    os.utime(old, (1, 1))
    for number in range(10):
        (tmp_path / f"kernels-{number}.o").touch()
        os.utime(tmp_path / f"kernels-{number}.o", (number, number))
    machine_code._sweep(tmp_path)
    kept = {each.name for each in tmp_path.iterdir()}
    assert kept == {".kernels-young", *(f"kernels-{number}.o" for number in range(2, 10))}


def test_arrays_of_another_type_or_shape_are_refused() -> None:
    """Nothing is read or written behind an array's end."""
    functions = machine_code.functions()
    assert functions is not None
    known, column, sums = of_addresses(functions), np.ones(5, dtype=np.float32), np.zeros(kernels.SUMS)
    for x, out, figures in (
        (column.astype(np.float64), column, sums),
        (column, column[:4], sums),
        (column[::2], column[:3], sums),
        (column, column, sums[:5]),
    ):
        with pytest.raises(TypeError, match="a kernel takes"):
            known["candidate"](0, x, x, 1.0, 1.0, out, figures)
