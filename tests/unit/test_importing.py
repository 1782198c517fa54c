"""What importing memguard costs: the libraries that it loads, and the time."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"pandas", "numpy", "sklearn", "autofeat", "dask", "starlette", "rich", "click"}


def run_fresh(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout


def top_level_modules_after(program: str) -> set[str]:
    return set(
        run_fresh(
            f"{program}; import sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
        ).split()
    )


def test_importing_memguard_loads_nothing_heavy() -> None:
    """A fresh interpreter that imports memguard holds no data library, no web code and no terminal code."""
    loaded = top_level_modules_after("import memguard")
    assert "memguard" in loaded
    assert HEAVY & loaded == set()


def test_using_memguard_loads_no_data_library() -> None:
    """Touching every public name loads nothing heavy either, but for rich, which structlog brings along."""
    loaded = top_level_modules_after(
        "import memguard; [getattr(memguard, name) for name in memguard.__all__]"
    )
    assert HEAVY & loaded <= {"rich"}


def import_seconds(names: str) -> float:
    """Return the processor time that a fresh interpreter takes for one import statement."""
    # Processor time: another program on the machine takes none of it.
    program = f"import time; start = time.process_time(); import {names}; print(time.process_time() - start)"
    return float(run_fresh(program))


def test_importing_memguard_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    """Importing memguard takes at most 60 ms more than importing psutil and structlog.

    The smallest of five to twelve fresh, alternating runs is compared: other work on the machine only ever adds time.
    """
    base_s, own_s = [], []
    extra_ms = math.inf
    while len(own_s) < 5 or (not 0 <= extra_ms <= 60 and len(own_s) < 12):
        base_s.append(import_seconds("psutil, structlog"))
        own_s.append(import_seconds("memguard"))
        extra_ms = (min(own_s) - min(base_s)) * 1000
    with capsys.disabled():
        sys.stdout.write(f"\nimport memguard: {extra_ms:.0f} ms more than import psutil, structlog\n")
    assert extra_ms <= 60
