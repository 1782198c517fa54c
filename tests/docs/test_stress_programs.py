"""The stress programs run, hold what they promise, and would notice if it did not hold."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from memguard.host import probe

ROOT = Path(__file__).resolve().parents[2]
STRESS = ROOT / "stress"
SMALLEST = {
    "budget_storm.py": ["--duration", "2", "--parallel", "4"],
    "chaos_kills.py": ["--duration", "5"],
    "episode_chaos.py": ["--duration", "2", "--pause", "0.2", "--quick"],
    "episode_full_disk.py": ["--quick"],
    "episode_sizes.py": ["--quick"],
    "forecast_fleet.py": ["--duration", "0"],
    "processor_soak.py": ["--count", "20"],
    "repeat_jobs.py": ["--count", "20", "--fits", "0"],
    "ledger_chaos.py": ["--duration", "2"],
    "machine_storm.py": ["--duration", "0", "--jobs", "4"],
    "many_processes.py": ["--duration", "2", "--processes", "12"],
    "shrinking_capacity.py": ["--duration", "0", "--jobs", "4"],
    "soak.py": ["--minutes", "0", "--warm-up", "55"],
    "result_transfer.py": ["--count", "12", "--largest", "2000000"],
}
PROGRAMS = sorted(path.name for path in STRESS.glob("[a-z]*.py"))
# A warm-up that is long enough, a disk that is filled, and storms of jobs that wait for each other take as long as all
# other tests of pages together; `make stress` runs these programs in full.
HEAVY = {
    "episode_full_disk.py",
    "episode_sizes.py",
    "forecast_fleet.py",
    "ledger_chaos.py",
    "machine_storm.py",
    "processor_soak.py",
    "repeat_jobs.py",
    "shrinking_capacity.py",
    "soak.py",
}


def run(program: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(program), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(STRESS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    "name",
    [pytest.param(each, marks=pytest.mark.heavy) if each in HEAVY else each for each in PROGRAMS],
)
def test_a_short_run_holds(name: str) -> None:
    """Each program ends well when it is run as briefly as it can be."""
    if name == "result_transfer.py":
        pytest.importorskip("pandas")
    status, output = run(STRESS / name, "--seed", "5", *SMALLEST[name])
    assert status == 0, output
    assert "invariant held (seed 5)" in output


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_says_what_it_proves(name: str) -> None:
    """Each program names its invariant and the requirements it proves, and the page lists it."""
    tree = ast.parse((STRESS / name).read_text())
    assert "Invariant:" in (ast.get_docstring(tree) or "")
    assert any(
        isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "REQUIREMENTS" for each in tree.body
    )
    assert f"`{name}`" in (STRESS / "README.md").read_text()


HEAD = """
import os, subprocess, sys, tempfile
from pathlib import Path
import _common
from memguard.host import open_fence

def body(parsed, checks):
    checks.check(True, "begun")
    {body}

sys.exit(_common.run_in_pen(body, _common.options("", duration_s=0.0).parse_args()))
"""
# Names what this process's programs leave: other runs beside it have files that begin like these, and need them.
LEFT = f"-left-by-{os.getpid()}"
FAULTS = {
    "something else": "checks.check(False, 'something else')",
    "the body ended with status 1": "raise RuntimeError('broken')",
    "the body ended with status -9": "os.kill(os.getpid(), 9)",
    "processes outlived the program": "subprocess.Popen(['sleep', '300'], start_new_session=True)",
    "files were left: ['/dev/shm/stress": f"Path('/dev/shm', _common.run_id() + '{LEFT}').write_text('x')",
    "files were left: ['/": "tempfile.mkdtemp()",
    "fences were left": "open_fence('left', 1 << 30)",
}


@pytest.mark.parametrize("violation", FAULTS)
def test_what_is_wrong_is_noticed_and_cleared_away(violation: str, tmp_path: Path) -> None:
    """A failed check, a crash and each kind of leftover end the program with 1 and say what it was."""
    if violation == "fences were left" and not probe().fence:
        pytest.skip(f"no fence can be made here: {probe().fence.reason}")
    program = tmp_path / "faulty.py"
    program.write_text(HEAD.format(body=FAULTS[violation]))
    status, output = run(program, "--patience", "0.5")
    for path in Path("/dev/shm").glob(f"stress*{LEFT}"):
        path.unlink()
    assert (status, f"VIOLATION: {violation}" in output) == (1, True), output
    assert "invariant VIOLATED" in output


def test_a_slope_is_told_from_noise() -> None:
    """A series that grows is told from one that only jitters, with one outlier in each."""
    sys.path.insert(0, str(STRESS))
    try:
        import _common
    finally:
        sys.path.remove(str(STRESS))
    jitter = [1000 + (7 * step) % 5 for step in range(50)]
    growing = [reading + 10 * step for step, reading in enumerate(jitter)]
    jitter[20] = growing[20] = 90_000
    calm, steep = _common.robust_slope(jitter), _common.robust_slope(growing)
    assert calm.low <= 0 <= calm.high
    assert abs(calm.slope) < 0.5
    assert 9.5 < steep.low <= steep.slope <= steep.high < 10.5
