"""What `memguard run` adds to a command: its fixed cost, and the slow-down of commands that compute and allocate."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _common import Figure, arguments, median, show

PACKAGES: Final = ("automl-memguard", "click", "psutil")
_MEMGUARD: Final = (sys.executable, "-m", "memguard.cli.main", "run", "--memory", "2GiB", "--")
_COMPUTE: Final = "sum(i * i for i in range(30_000_000))"
_ALLOCATE: Final = "for _ in range(20): bytearray(200 * 2**20)"


def _seconds(command: tuple[str, ...]) -> float:
    began = time.monotonic()
    subprocess.run(command, check=True)
    return time.monotonic() - began


def _interleaved(command: tuple[str, ...], rounds: int) -> tuple[float, float]:
    pairs = [(_seconds((*_MEMGUARD, *command)), _seconds(command)) for _ in range(rounds)]
    return median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)


def measure_fixed_cost(rounds: int) -> tuple[Figure, float]:
    """Compare `memguard run -- true` with starting Python at all."""
    wrapped_s, _ = _interleaved(("true",), rounds)
    python_s = median(_seconds((sys.executable, "-c", "import click")) for _ in range(rounds))
    figure = Figure(
        "fixed cost (true)", f"{wrapped_s * 1000:.0f} ms", f"python + click {python_s * 1000:.0f} ms",
        f"{wrapped_s / python_s:.2f}", "-",
    )  # fmt: skip
    return figure, wrapped_s


def measure_slow_down(name: str, program: str, rounds: int, fixed_s: float) -> Figure:
    """Compare a wrapped program with the plain one, the fixed cost taken off."""
    wrapped_s, plain_s = _interleaved((sys.executable, "-c", program), rounds)
    ratio = (wrapped_s - fixed_s) / plain_s
    return Figure(
        f"{name}, fixed cost off", f"{wrapped_s - fixed_s:.2f} s", f"plain {plain_s:.2f} s", f"{ratio:.3f}", "<= 1.02",
        ratio <= 1.02,
    )  # fmt: skip


def measure_guards_cpu() -> Figure:
    """Measure the wrapper's own processor time beside a command that sleeps."""
    program = "import time; time.sleep(5)"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run((*_MEMGUARD, "true"), check=True)
    middle = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run((*_MEMGUARD, sys.executable, "-c", program), check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    start_up = middle.ru_utime + middle.ru_stime - before.ru_utime - before.ru_stime
    whole = after.ru_utime + after.ru_stime - middle.ru_utime - middle.ru_stime
    share = max(0.0, whole - start_up) / 5
    return Figure(
        "wrapper's and sleeper's CPU", f"{share:.2%} of one core", "-", "-", "<= 1 %", share <= 0.01
    )


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "", rounds=7)
    fixed, fixed_s = measure_fixed_cost(options.rounds)
    figures = [
        fixed,
        measure_slow_down("compute", _COMPUTE, options.rounds, fixed_s),
        measure_slow_down("allocate", _ALLOCATE, options.rounds, fixed_s),
        measure_guards_cpu(),
    ]
    show("run_wrapper", figures, PACKAGES, as_json=options.json)


if __name__ == "__main__":
    main()
