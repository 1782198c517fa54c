"""``memguard autofeat`` as a user runs it: real files, real processes, exit statuses, what is on which stream."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes

from memguard.manager import MemoryManager

pytest.importorskip("autofeat", reason="stock autofeat is not installed")

from memguard.integrations.autofeat import FitSettings, TableRequest, Task, process_table
from memguard_integrations.autofeat.jobs import preload_for
from memguard_integrations.autofeat.records import Engine
from tests.support.autofeat_command import MEMGUARD, QUICK, Outcome, run


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """442 real patients as Parquet, with an index of their own, two gaps and a text beside."""
    frame = load_diabetes(as_frame=True, scaled=False).frame[["bmi", "s5", "target"]]
    frame["sex"] = np.where(np.arange(len(frame)) % 3 == 0, "f", "m")
    frame.index = pd.Index([f"p{row}" for row in range(len(frame))], name="patient")
    frame.loc["p3", "bmi"] = np.nan
    frame.loc["p4", "target"] = np.nan
    path = tmp_path_factory.mktemp("tables") / "patients.parquet"
    frame.to_parquet(path)
    return path


@pytest.fixture(scope="module")
def manager() -> Iterator[MemoryManager]:
    """A manager whose template has autofeat loaded."""
    with MemoryManager("1GiB", preload=preload_for(Engine.MEMGUARD)) as shared:
        yield shared


@pytest.fixture(scope="module")
def finished(table: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """One whole run with every output: document, report, table."""
    place = tmp_path_factory.mktemp("finished")
    outcome = run(
        *(table, "--target", "target", *QUICK, "--fit-rows", "300", "--seed", "3", "--json"),
        *("-o", "out.parquet", "--report", "r.json"),
        cwd=place,
    )
    assert outcome.returncode == 0, outcome.stderr
    return place, outcome


class TestARun:
    """A run that goes well."""

    def test_the_output_is_the_table_with_more_columns(
        self, finished: tuple[Path, Outcome], table: Path
    ) -> None:
        """All rows in their order with their index, gaps included; the target last and unchanged."""
        before, after = pd.read_parquet(table), pd.read_parquet(finished[0] / "out.parquet")
        pd.testing.assert_index_equal(after.index, before.index)
        pd.testing.assert_series_equal(after["target"], before["target"])
        assert after.columns[-1] == "target"
        assert np.array_equal(after["bmi"], before["bmi"], equal_nan=True)
        assert np.array_equal(after["sex_f"], before["sex"] == "f")

    def test_the_document_is_what_its_schema_says(
        self, finished: tuple[Path, Outcome], project_root: Path
    ) -> None:
        """Stdout is one JSON document that the committed schema accepts, and its figures agree with each other."""
        document = json.loads(finished[1].stdout)
        schema = json.loads((project_root / "memguard/schemas/autofeat-1.json").read_text())
        jsonschema.validate(document, schema, jsonschema.Draft202012Validator)
        assert document["rows"] == {"table": 442, "usable": 440, "fitted": 300, "written": 442}
        scores = document["scores"]
        assert (scores["fitted"]["rows"], scores["held_out"]["rows"]) == (300, 140)
        assert scores["held_out"]["autofeat"] > 0.2
        memory = document["memory"]
        assert 0 < memory["peak_bytes"] <= document["estimate"]["high_bytes"] <= memory["budget_bytes"]
        after = pd.read_parquet(finished[0] / "out.parquet")
        assert document["columns"]["written"] == list(after.columns)

    @pytest.mark.requirement("R5.4")
    def test_the_report_can_be_read(self, finished: tuple[Path, Outcome]) -> None:
        """The report names the phases and the estimate, and counts the batches that were written."""
        report = json.loads((finished[0] / "r.json").read_text())
        assert report["schema"] == "memguard.report/1"
        assert report["outcome"] == "completed"
        names = [phase["name"] for phase in report["phases"]]
        assert names == ["read", "prepare", "expand", "select", "fit", "transform", "write"]
        assert report["batches"]["rows"] == 442
        assert report["estimate"]["high_bytes"] >= report["peak_bytes"]

    def test_words_are_on_stderr(self, finished: tuple[Path, Outcome]) -> None:
        """What was left out, how many rows were taken and the estimate are said on stderr, each on a marked line."""
        lines = finished[1].stderr.splitlines()
        assert all(line.startswith("memguard: ") for line in lines)
        said = finished[1].stderr
        assert "2 rows of 442 with missing values are not used for fitting or scoring" in said
        assert "fitting on 300 of 440 usable rows (a random sample, seed 3)" in said
        assert "sex (text) became 0/1 columns for f" in said
        assert "estimate: " in said

    def test_nothing_else_is_left(self, finished: tuple[Path, Outcome]) -> None:
        """Beside what was asked for there is no file."""
        assert sorted(os.listdir(finished[0])) == ["out.parquet", "r.json"]

    def test_people_get_formulas_scores_and_the_next_step(self, tmp_path: Path) -> None:
        """Without --json stdout has the formulas, all scores and what to type next; with -q stderr has not a word."""
        cancer = load_breast_cancer(as_frame=True).frame.iloc[:200]
        cancer["diagnosis"] = np.where(cancer["target"] == 1, "benign", "malignant")
        columns = ["mean radius", "mean texture", "diagnosis"]
        cancer[columns].to_csv(tmp_path / "cancer.csv.gz", index=False)
        outcome = run(
            *("cancer.csv.gz", "--target", "diagnosis", "--task", "classification", *QUICK, "-q"),
            *("-o", "out.parquet"),
            cwd=tmp_path,
        )
        assert outcome.returncode == 0, outcome.stderr
        assert "AutoFeat on cancer.csv.gz: diagnosis from 2 columns, 200 of 200 usable rows" in outcome.stdout
        assert "accuracy" in outcome.stdout
        assert "AutoFeat's own model" in outcome.stdout
        assert "out.parquet: 200 rows x" in outcome.stdout
        assert "next" in outcome.stdout
        assert outcome.stderr == ""
        assert set(pd.read_parquet(tmp_path / "out.parquet")["diagnosis"]) == {"benign", "malignant"}


class TestEndings:
    """However it ends, no part of an output is left."""

    @staticmethod
    def wish(table: Path, output: Path) -> TableRequest:
        settings = FitSettings(Task.REGRESSION, steps=1, selection_runs=1)
        return TableRequest(str(table), "target", str(output), settings, columns=("bmi", "s5"))

    @pytest.mark.requirement("R1.4")
    @pytest.mark.parametrize("phase", ["expand", "transform"])
    def test_a_worker_that_is_killed(
        self, manager: MemoryManager, table: Path, tmp_path: Path, phase: str
    ) -> None:
        """A worker killed from elsewhere, in the middle of its work or of writing, leaves nothing in the directory."""
        workers: list[int] = []

        def kill(progress: Any) -> None:
            if progress.phase == phase and len(workers) == 2:
                os.kill(workers[-1], signal.SIGKILL)
                workers.append(0)

        def note(event: Any) -> None:
            if event.name == "memguard.job_started":
                workers.append(event.fields["pid"])

        with manager.events.subscribed(note), pytest.raises(RuntimeError, match="SIGKILL"):
            process_table(manager, self.wish(table, tmp_path / "out.parquet"), on_progress=kill)
        assert os.listdir(tmp_path) == []

    @pytest.mark.requirement("R1.4")
    @pytest.mark.parametrize(
        ("number", "status", "told"),
        [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "stopped by SIGTERM")],
    )
    def test_who_is_asked_to_stop(
        self, table: Path, tmp_path: Path, number: int, status: int, told: str
    ) -> None:
        """Ctrl-C and SIGTERM end it with their status, a line on what is saved, the report, and no other file.

        Where the log is JSON, each line on stderr is.
        """
        wanted = ("--memory", "1GiB", "--log-format", "json", "--report", "r.json", "-o", "out.parquet")
        with subprocess.Popen(
            [*MEMGUARD, str(table), "--target", "target", *wanted],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if json.loads(line)["event"].startswith("expand"):
                    break
            process.send_signal(number)
            rest = [json.loads(line) for line in process.stderr]
            assert process.wait() == status
        assert (
            rest[-1]["event"]
            == f"{told}; no out.parquet was written; memguard report r.json tells how far it was"
        )
        assert os.listdir(tmp_path) == ["r.json"]
        assert json.loads((tmp_path / "r.json").read_text())["outcome"] == "interrupted"

    def test_a_report_that_cannot_be_written(self, table: Path, tmp_path: Path) -> None:
        """The features are there, and the status says so; the report that is not is told of in one line."""
        (tmp_path / "reports").mkdir()
        wanted = (*QUICK, "--report", "reports/r.json", "-o", "out.parquet")
        with subprocess.Popen(
            [*MEMGUARD, str(table), "--target", "target", *wanted],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith("memguard: expand"):
                    break
            (tmp_path / "reports").rmdir()
            rest = process.stderr.read().splitlines()
            assert process.wait() == 0
        assert rest[-1].startswith("memguard: reports/r.json could not be written: ")
        assert os.listdir(tmp_path) == ["out.parquet"]

    def test_a_full_disk(self, table: Path, tmp_path: Path, manager: MemoryManager) -> None:
        """A disk that is full while the output is written gives one line with file and remedy, and an empty disk."""
        small = tmp_path / "small"
        small.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(small)]
        if (mounted := subprocess.run(mount, capture_output=True, check=False)).returncode:
            pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
        try:
            with pytest.raises(
                OSError, match=r"out\.parquet: could not be written \(No space left"
            ) as caught:
                process_table(manager, self.wish(table, small / "out.parquet"))
            assert "free some space" in str(caught.value)
            assert os.listdir(small) == []
        finally:
            subprocess.run(["umount", str(small)], check=True)

    def test_time_that_is_up(self, table: Path, tmp_path: Path) -> None:
        """A run past its time is stopped, says so, and leaves nothing but the report."""
        outcome = run(
            *(
                table,
                "--target",
                "target",
                "--timeout",
                "20ms",  # less than it takes to start the job that reads the table
                "--memory",
                "1GiB",
                "-q",
                "-o",
                "out.parquet",
            ),
            cwd=tmp_path,
        )
        assert outcome.returncode == 124
        assert "its time of 20 ms was up" in outcome.stderr
        assert "--timeout 1s" in outcome.stderr
        assert "what is saved: nothing: the output" in outcome.stderr
        assert os.listdir(tmp_path) == []


def test_a_dry_run_tells_what_a_fit_would_need_and_writes_nothing(
    table: Path, tmp_path: Path, project_root: Path
) -> None:
    """No output is named; after a real run the document has its forecast, the past job and its time."""
    store = str(tmp_path / "past")
    first = run(table, "--target", "target", *QUICK, "--dry-run", cwd=tmp_path, MEMGUARD_EPISODES=store)
    assert first.returncode == 0, first.stderr
    assert "first principles say" in first.stdout
    assert "* in memory" in first.stdout
    assert "it would start at once" in first.stdout
    done = run(
        table, "--target", "target", *QUICK, "-o", "out.parquet", cwd=tmp_path, MEMGUARD_EPISODES=store
    )
    assert done.returncode == 0, done.stderr
    assert "there were none like it; the next one like it gets" in done.stdout
    (tmp_path / "out.parquet").unlink()
    again = run(
        table, "--target", "target", *QUICK, "--dry-run", "--json", cwd=tmp_path, MEMGUARD_EPISODES=store
    )
    document = json.loads(again.stdout)
    schema = json.loads((project_root / "memguard/schemas/autofeat-prospect-1.json").read_text())
    jsonschema.validate(document, schema)
    forecast, chosen = document["forecast"], document["ways"][0]
    assert len(forecast["episodes"]) == 1
    assert forecast["predicted_bytes"] < chosen["high_bytes"]
    assert chosen["duration_s"] > 0
    assert document["now"]["is_free"]
    assert {each.name for each in tmp_path.iterdir()} <= {"past"}


def test_a_dry_run_of_what_would_be_refused_says_what_would_fit(table: Path, tmp_path: Path) -> None:
    """It ends as the run would, with the ways and the remedies."""
    refused = run(
        table, "--target", "target", "--memory", "66MiB", "--light", "never", "--dry-run", "-q", cwd=tmp_path
    )
    assert refused.returncode == 125
    assert "no room for it" in refused.stdout
    assert "too small" in refused.stdout
    assert "what would fit: --memory" in refused.stderr


def test_an_output_is_needed_but_for_a_dry_run(table: Path, tmp_path: Path) -> None:
    """Without one nothing begins."""
    assert "--output" in run(table, "--target", "target", *QUICK, cwd=tmp_path).stderr
