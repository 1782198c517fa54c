"""The zoo of programs says the truth, and the detector finds it in real processes."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from memguard.leaks.records import Kind

ZOO = Path(__file__).resolve().parents[3] / "stress" / "leak_zoo"


def load_zoo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("_leak_zoo", ZOO / "_zoo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its records are dataclasses, which look their module up
    spec.loader.exec_module(module)
    return module


zoo = load_zoo()
PROGRAMS = {each.name: each for each in zoo.programs()}


def test_there_are_many_programs_of_every_kind() -> None:
    """At least forty programs, every kind of leak, and a third of them innocent."""
    assert len(PROGRAMS) >= 40
    assert {kind for each in PROGRAMS.values() for kind in each.kinds} == {kind.value for kind in Kind}
    assert sum(not each.leaks for each in PROGRAMS.values()) >= len(PROGRAMS) / 3
    assert PROGRAMS.keys() >= zoo.FIRST_HALF


def test_every_truth_was_measured_by_brute_force() -> None:
    """What a program says of itself is what a much longer run showed."""
    measured = json.loads((ZOO / "truth.json").read_text())
    assert measured.keys() == PROGRAMS.keys()
    assert {name: each["leaks"] for name, each in measured.items()} == {
        name: each.leaks for name, each in PROGRAMS.items()
    }


@pytest.mark.heavy
@pytest.mark.parametrize(
    "name",
    [
        "list_of_bytes",
        "malloc_small",
        "raw_mmap",
        "cycles_gc_off",
        "open_files",
        "lru_of_sixty",
        "late_steps",
    ],
)
def test_the_detector_tells_the_truth_of_real_programs(name: str) -> None:
    """In a fresh process forty iterations of a program end in the right verdict, kind and name."""
    program = PROGRAMS[name]
    found = zoo.run(name, 40, "memguard")
    assert found["leaking"] is program.leaks, found
    if program.leaks:
        assert found["kind"] in program.kinds
    if program.names:
        assert any(part in told for part in program.names for told in found["names"])
