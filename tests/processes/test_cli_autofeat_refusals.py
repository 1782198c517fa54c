"""What ``memguard autofeat`` refuses: one line that says what is wrong, a status, and no file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("autofeat", reason="stock autofeat is not installed")

from tests.support.autofeat_command import Outcome, run


def only_line(outcome: Outcome) -> str:
    """The one line that a failed command may say, without its mark."""
    lines = outcome.stderr.splitlines()
    assert outcome.stdout == ""
    assert len(lines) == 1, outcome.stderr
    assert lines[0].startswith("memguard: ")
    return lines[0].removeprefix("memguard: ")


class TestBadInput:
    """Each gets one line that names the thing and the remedy, its status, and no file."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[Path]:
        """A directory with bad tables, in which nothing may appear."""
        rows = [f"{row},{row % 7},{row * 2}" for row in range(30)]
        files: dict[str, str | bytes] = {
            "good.csv": "\n".join(["a,b,y", *rows]),
            "zero.csv": "a,b,y\n",
            "one.csv": "a,b,y\n1,2,3\n",
            "ragged.csv": "a,b,y\n1,2,3\n4,5\n",
            "binary.csv": b"\x89PNG\x00\x01\xff",
            "twice.csv": "a,a,y\n1,2,3\n",
            "text.csv": "\n".join(["a,y", *(f"{row},{'no' if row % 2 else 'yes'}" for row in range(30))]),
            "same.csv": "\n".join(["a,b,y", *(f"1,,{row}" for row in range(30))]),
            "there.parquet": b"mine",
        }
        for name, content in files.items():
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
        yield tmp_path
        assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["god.csv"], "god.csv: there is no such file; did you mean 'good.csv'?"),
            (["good.csv", "-o", "there.parquet"], "there.parquet: exists already"),
            (["good.csv", "-o", "out.csv"], "out.csv: the output is Parquet"),
            (["good.csv", "-o", "no/out.parquet"], "no/out.parquet: there is no folder no"),
            (["good.csv", "--report", "there.parquet"], "there.parquet: exists already"),
            (["good.csv", "--memory", "80"], "--memory 80: 80 B is too small to run anything"),
            (["good.csv", "--memory", "4 bananas"], "--memory: '4 bananas' is not a size"),
            (["good.csv", "--memory", "900000GiB"], "--memory 900000GiB is more than there is"),
            (["good.csv", "--fit-rows", "some"], "Invalid value for '--fit-rows': 'some' is neither"),
            (["good.csv", "--columns", "a,,b"], "--columns: an empty name"),
            (["good.csv", "--timeout", "soon"], "--timeout: 'soon' is not a duration"),
        ],
    )
    def test_what_can_be_seen_at_once(self, place: Path, arguments: list[str], message: str) -> None:
        """Wrong arguments are refused without starting anything."""
        outcome = run(
            *arguments, "--target", "y", *([] if "-o" in arguments else ["-o", "o.parquet"]), cwd=place
        )
        assert only_line(outcome).startswith(message)
        assert outcome.returncode == 2

    @pytest.mark.parametrize(
        ("name", "target", "message"),
        [
            ("good.csv", "Y1", "good.csv: has no column 'Y1' (--target); did you mean 'y'?"),
            ("same.csv", "y", "same.csv: no column is left to learn from"),
            ("one.csv", "y", "one.csv: has 1 row"),
            ("ragged.csv", "y", "ragged.csv: cannot be read as CSV (Row #3: Expected 3 columns, got 2"),
            ("text.csv", "y", "text.csv: the target 'y' is text, not a number"),
        ],
    )
    def test_what_the_worker_finds(self, place: Path, name: str, target: str, message: str) -> None:
        """Data that cannot be worked on come back from the worker as the same one line, without a traceback."""
        outcome = run(name, "--target", target, "--memory", "1GiB", "-q", "-o", "o.parquet", cwd=place)
        assert only_line(outcome).startswith(message)
        assert outcome.returncode == 2

    def test_what_cannot_fit_is_refused_before_it_runs(self, place: Path) -> None:
        """A job beyond its budget is refused with figures and what would fit; status 125, as for what did not start."""
        outcome = run(
            "good.csv",
            "--target",
            "y",
            *("--steps", "3", "--memory", "64MiB", "--light", "never", "-q", "-o", "o.parquet"),
            cwd=place,
        )
        line = only_line(outcome)
        assert "fitting 30 rows in 3 steps needs" in line
        assert "the budget is 64 MiB" in line
        assert "--memory 1" in line
        assert outcome.returncode == 125
