"""The leaks of docs/autofeat-leaks.md are found, told by their kind and named, on the functions that the page names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "autofeat-leaks.md").read_text()


def look_at(name: str, iterations: int) -> dict[str, Any]:
    target = f"benchmarks.autofeat_leaks:{name}"
    words = ["-m", "memguard", "leaks", target, "--iterations", str(iterations), "--json", "-q", "--no-trace"]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("name", "iterations", "kind", "holder", "least_bytes"),
    [
        ("kept_tracebacks", 40, "array", "benchmarks.autofeat_leaks.FAILURES: list", 400_000),
        pytest.param(
            "joblib_memmaps",
            40,
            "mapping",
            "benchmarks.autofeat_leaks.RESULTS: list",
            3_900_000,
            marks=pytest.mark.heavy,
        ),
        pytest.param("numba_closures", 40, "native", "numba", 300_000, marks=pytest.mark.heavy),
    ],
)
def test_each_leak_is_found_and_named(
    name: str, iterations: int, kind: str, holder: str, least_bytes: int
) -> None:
    """The verdict is leaking, of the kind that the page tells, at least so large, and held by whom the page names."""
    pytest.importorskip("joblib" if name == "joblib_memmaps" else "numba")
    found = look_at(name, iterations)
    assert (found["verdict"], found["kind"]) == ("leaking", kind), found
    assert found["bytes_per_iteration"] >= least_bytes
    assert any(each["holder"].startswith(holder) for each in found["culprits"]), found["culprits"]
    assert kind != "native" or re.match(r"numba compiled \d+ functions", found["source"])


def test_the_page_names_functions_that_are_there() -> None:
    """Each function in the table of the page is one of the benchmark's."""
    source = (ROOT / "benchmarks" / "autofeat_leaks.py").read_text()
    named = re.findall(r"^\| `(\w+)`", PAGE, re.MULTILINE)
    assert len(named) >= 5
    assert [name for name in named if f"def {name}(" not in source] == []
