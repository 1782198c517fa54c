"""AutoFeat work in fresh processes: autofeat's own or this project's engine, timed and weighed from inside.

A process imports first; time and memory are counted from then on, and the time with all imports is told as well.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import _common

__all__ = ["CONTENDERS", "Run", "run"]

CONTENDERS: Final = ("stock", "engine")

# VmHWM counts what is shared as well: columns in memory files are part of what a fit takes.
_PREAMBLE: Final = """
import json, logging, sys, time, warnings
BEGAN = time.perf_counter()
warnings.simplefilter("ignore")
CONTENDER, ARGUMENTS = sys.argv[1], json.loads(sys.argv[2])

def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

def estimators():
    if CONTENDER == "stock":
        import autofeat
        logging.getLogger().setLevel(logging.ERROR)
        return autofeat
    import memguard.integrations.autofeat as engine
    return engine

def import_all():
    # autofeat imports with itself what the engine imports at its first fit.
    if CONTENDER == "engine":
        import memguard_integrations.autofeat.engine.expansion
        import memguard_integrations.autofeat.engine.selection
        from memguard_integrations.autofeat.engine import kernels
        kernels.load()

def weighed(work):
    with open("/proc/self/clear_refs", "w") as marks:
        marks.write("5")
    before, began = status("VmRSS"), time.perf_counter()
    answer = work()
    seconds, peak = time.perf_counter() - began, status("VmHWM")
    return {"seconds": seconds, "peak_bytes": peak - before, "whole_bytes": peak, "answer": answer}

def tell(found):
    found["since_start_s"] = time.perf_counter() - BEGAN
    print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What one process told.

    Attributes:
        seconds: of the work.
        peak_bytes: resident above what was there before the work.
        whole_bytes: resident at the peak of the work, imports included.
        since_start_s: from the first line of the program, imports included.
        answer: what the work gave.
    """

    seconds: float
    peak_bytes: int
    whole_bytes: int
    since_start_s: float
    answer: Any = None


def run(contender: str, program: str, *arguments: Any, before: Sequence[str] = ()) -> Run:
    """Run a program for one of the contenders; it has ``estimators``, ``weighed``, ``tell`` and ``ARGUMENTS``.

    Args:
        contender: of `CONTENDERS`.
        program: lines of Python that end in ``tell(weighed(...))``.
        arguments: plain data for it.
        before: a command that it is started by.

    Raises:
        RuntimeError: if it fails, with what it said last.
    """
    words = [
        *before,
        sys.executable,
        "-P",  # the file beside this one has the name of the package that is measured
        "-W",
        "ignore",
        "-c",
        _PREAMBLE + program,
        contender,
        json.dumps(arguments),
    ]
    environment = {**_common.python_environment(), "PYTHONHASHSEED": "0"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{contender} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return Run(**json.loads(done.stdout.strip().splitlines()[-1]))
