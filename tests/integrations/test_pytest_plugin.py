"""The pytest plugin, as somebody uses it in a project of his own: marks, the fixture, options, and what pytest collects."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import asyncio, logging, os, warnings
import pytest

KEPT, CALLS, FILES = [], [], []

@pytest.mark.leakcheck
def test_clean():
    CALLS.append(1) if len(CALLS) < 1 else None

@pytest.mark.leakcheck(iterations=30, limit="4 KiB/iteration")
def test_leaks():
    KEPT.append(bytearray(20_000))

@pytest.mark.leakcheck(limit="1 MiB/iteration")
def test_leaks_what_it_may():
    KEPT.append(bytearray(20_000))

@pytest.mark.leakcheck
def test_leaks_descriptors():
    FILES.append(os.dup(0))

@pytest.mark.leakcheck
def test_what_pytest_collects_is_no_leak(caplog, capsys):
    logging.getLogger("app").warning("a record of a hundred and more letters %s", "x" * 5000)
    warnings.warn("w" * 5000, UserWarning, stacklevel=1)
    print("y" * 5000)
    assert len(caplog.records) == 1
    assert len(capsys.readouterr().out) == 5001

NUMBERS = iter(range(100))

@pytest.mark.leakcheck
def test_fails_later():
    assert next(NUMBERS) < 7

def test_by_the_fixture(leakcheck):
    held = []
    assert leakcheck(lambda: None, iterations=20).verdict != "leaking"
    leakcheck(lambda: held.append(bytes(9000)), iterations=20, limit=0)

@pytest.mark.leakcheck(times=3)
def test_a_mistake():
    pass

def test_not_marked():
    KEPT.append(bytearray(20_000))
"""


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "memguard_integrations.pytest.plugin",
        "-p",
        "no:cacheprovider",
    ]
    return subprocess.run(
        [*command, "--strict-markers", "-rA", *words, "test_own.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with tests of all sorts."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "test_own.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\n")
    return folder


@pytest.fixture(scope="module")
def told(project: Path) -> str:
    """What pytest says of them."""
    done = run(project)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("test_clean", "PASSED"),
        ("test_leaks", "FAILED"),
        ("test_leaks_what_it_may", "PASSED"),
        ("test_leaks_descriptors", "FAILED"),
        ("test_what_pytest_collects_is_no_leak", "PASSED"),
        ("test_fails_later", "FAILED"),
        ("test_by_the_fixture", "FAILED"),
        ("test_a_mistake", "FAILED"),
        ("test_not_marked", "PASSED"),
    ],
)
def test_each_ends_as_it_should(told: str, name: str, ending: str) -> None:
    """Leaks above the limit fail, all else ends as without the check; what pytest itself collects is no leak."""
    assert re.search(rf"^{ending} test_own\.py::{name}\b", told, re.MULTILINE), told


def test_a_failure_names_the_holder(told: str) -> None:
    """The failure tells how much, what is allowed, and which list of which module holds it."""
    assert re.search(r"leaks (19|20)(\.\d)? KiB an iteration \(\w+\), 4 KiB are allowed", told)
    assert "held by test_own.KEPT: list, +1 entries/iteration" in told
    assert re.search(r"held by (closure|local) variable held of .*: list, \+1 entries/iteration", told)
    assert "leaks 1 descriptor an iteration (fd), none is allowed" in told


def test_a_failure_of_a_later_iteration_is_told_with_its_number(told: str) -> None:
    """The test passed once, and fails in the seventh run of the check: its own error, with a note."""
    assert "memguard: in iteration 7 of 40 of the leak check" in told


def test_mistakes_in_the_mark_are_told(told: str) -> None:
    """A name that the mark does not know fails the test with those that it knows."""
    assert "leakcheck knows iterations and limit, not times" in told


def test_options_widen_and_switch_off(project: Path) -> None:
    """With --leakcheck tests without a mark are checked; with --no-leakcheck none is, and nothing is loaded."""
    wide = run(project, "--leakcheck", "--leakcheck-iterations", "20", "-k", "not_marked")
    assert "memguard: every test function runs 20 more times, to see whether it leaks" in wide.stdout
    assert "FAILED test_own.py::test_not_marked" in wide.stdout
    allowed = run(project, "--leakcheck", "--leakcheck-limit", "1MiB", "-k", "not_marked")
    assert "PASSED test_own.py::test_not_marked" in allowed.stdout
    off = run(project, "--no-leakcheck", "-k", "leaks or not_marked")
    assert off.returncode == 0, off.stdout


def test_the_plugin_loads_nothing_by_itself() -> None:
    """Who has memguard installed and no such test pays for no detector."""
    program = "import sys, memguard_integrations.pytest.plugin; print(sorted(m for m in sys.modules if m.startswith('memguard.')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
