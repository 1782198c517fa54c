"""Shared memory that joblib's killed processes leave is removed, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memguard.report import ProcessUse
from memguard_integrations.autofeat.joblib_leftovers import remove_leftovers


@pytest.fixture(scope="session")
def dead_pid() -> int:
    """The pid of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.requirement("R1.4")
def test_only_files_of_the_jobs_dead_processes_are_removed(
    fitted: Any, dead_pid: int, tmp_path: Path
) -> None:
    """A dead process's semaphore and folder go; those of a living one, of another job and of others stay."""
    mine, alive, other = dead_pid, os.getpid(), dead_pid + 1
    gone = [f"sem.loky-{mine}-ab_c", f"joblib_memmapping_folder_{mine}_1_2"]
    kept = [f"sem.loky-{alive}-ab_c", f"sem.loky-{other}-ab_c", f"psm_{mine}", "sem.loky-x", f"loky-{mine}-a"]
    for name in gone + kept:
        if "folder" in name:
            (tmp_path / name).mkdir()
            (tmp_path / name / "array.pkl").write_bytes(b"data")
        else:
            (tmp_path / name).write_bytes(b"")
    tree = (ProcessUse(mine, "python", 1), ProcessUse(alive, "python", 1))
    removed = remove_leftovers(replace(fitted.reports[0], processes=tree), tmp_path)
    assert removed == tuple(sorted(gone))
    assert sorted(os.listdir(tmp_path)) == sorted(kept)
