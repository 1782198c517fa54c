"""The programs of the zoo with their truths, read without running any of them."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["FIRST_HALF", "Program", "programs", "run"]

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
# The detector's thresholds were set with these in view. The others were written afterwards, to see whether they hold.
_FIRST_HALF_TEXT: Final = """
arrays_in_history cache_without_bound class_registry closure_callbacks cycles_gc_off cycles_gc_on
deque_of_hundred dict_of_answers every_tenth fragmented_heap hidden_in_noise late_imports late_steps
linecache_of_generated list_of_bytes loggers_by_name lru_of_sixty malloc_large malloc_small model_is_replaced
numba_closures open_files pool_of_buffers queue_length_wanders raw_mmap sawtooth_dict shared_segments
sympy_expressions thread_local_log tracebacks_kept transient_arrays view_keeps_base waiting_threads
"""
FIRST_HALF: Final = frozenset(_FIRST_HALF_TEXT.split())


@dataclass(frozen=True, slots=True)
class Program:
    """One program.

    Attributes:
        name: of its file, and of its module when it runs.
        leaks: whether it does.
        kinds: the kinds that are right to say; two where a leak is two things at once.
        bytes: about how many an iteration; 0 if they do not matter.
        names: parts of names and types, one of which should be among a finding's first three.
        slow: whether an iteration takes more than some milliseconds.
    """

    name: str
    leaks: bool
    kinds: tuple[str, ...]
    bytes: int
    names: tuple[str, ...]
    slow: bool

    @property
    def is_first_half(self) -> bool:
        """Whether thresholds were set with it in view."""
        return self.name in FIRST_HALF


def programs() -> list[Program]:
    """Return all programs, by name."""
    return [_program(path) for path in sorted((HERE / "programs").glob("*.py"))]


def _program(path: Path) -> Program:
    truth = _truth(ast.parse(path.read_text()))
    kinds = truth.get("kind", ())
    return Program(
        name=path.stem,
        leaks=truth["leaks"],
        kinds=(kinds,) if isinstance(kinds, str) else tuple(kinds),
        bytes=truth.get("bytes", 0),
        names=tuple(truth.get("names", ())),
        slow=truth.get("slow", False),
    )


def _truth(tree: ast.Module) -> dict[str, Any]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TRUTH":
            found: dict[str, Any] = ast.literal_eval(node.value)
            return found
    raise ValueError("a program of the zoo says its TRUTH in a dict of plain values")


def run(name: str, iterations: int, tool: str, *, timeout_s: float = 600.0) -> dict[str, Any]:
    """Run one program under one tool in a fresh process; what went wrong is told under ``error``."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MEMGUARD_")}
    if tool == "psleak":
        environment["PYTHONMALLOC"] = "malloc"  # it refuses to measure memory without
    words = [sys.executable, str(HERE / "run.py"), name, "--iterations", str(iterations), "--tool", tool]
    try:
        done = subprocess.run(
            words, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=True
        )
    except subprocess.TimeoutExpired:
        return {"name": name, "tool": tool, "leaking": False, "names": [], "error": "took too long"}
    except subprocess.CalledProcessError as error:
        return {"name": name, "tool": tool, "leaking": False, "names": [], "error": error.stderr[-500:]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
