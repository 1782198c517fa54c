"""Run one program of the zoo under one tool in this process, and print what it found as a line of JSON.

``python stress/leak_zoo/run.py list_of_bytes --iterations 40 --tool memguard``
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import sys
import time
from pathlib import Path
from types import ModuleType

import _tools

PROGRAMS = Path(__file__).parent / "programs"
# A program that leaks 10 MiB an iteration must not fill the machine under a tool that repeats it often.
_MOST_BYTES = 6 * 1024**3


def load(name: str) -> ModuleType:
    """Import a program by its own name, as a user's module would be, and set it up."""
    sys.path.insert(0, str(PROGRAMS))
    program = importlib.import_module(name)
    if hasattr(program, "setup"):
        program.setup()
    return program


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--tool", choices=sorted(_tools.TOOLS), default="memguard")
    parsed = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_DATA, (_MOST_BYTES, _MOST_BYTES))
    program = load(parsed.name)
    began_s = time.perf_counter()
    try:
        found = _tools.TOOLS[parsed.tool](program.iteration, parsed.iterations)
    finally:
        if hasattr(program, "teardown"):
            program.teardown()
    found |= {"name": parsed.name, "tool": parsed.tool, "seconds": time.perf_counter() - began_s}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
