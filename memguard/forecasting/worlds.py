"""Which world a job runs in: what else than its data decides what it uses.

A machine is told by its architecture and its processors, by whose number libraries choose their threads and copies,
and not by its name: containers get a new one with each start, and what they learned would be lost.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import Final

from memguard.host import usable_cpus

__all__ = ["library_versions", "world_of_libraries", "world_of_program"]

_LIBRARIES: Final = ("numpy", "pandas", "scikit-learn", "autofeat", "torch", "xgboost", "lightgbm", "polars")


@cache
def _machine() -> str:
    return f"{platform.machine()}, {usable_cpus()} processors"


@cache
def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that decide what a job uses, as far as they are installed."""
    import importlib.metadata  # noqa: PLC0415 - a wrapped command, whose libraries are its own, starts sooner without

    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@cache
def world_of_libraries() -> str:
    """Return the world of a function: this machine, this Python, its libraries; repairs of versions count as alike."""
    python = ".".join(platform.python_version_tuple()[:2])
    told = [f"{name} {'.'.join(version.split('.')[:2])}" for name, version in library_versions().items()]
    return ", ".join([_machine(), f"python {python}", *told])


def world_of_program(path: str) -> str:
    """Return the world of a command: this machine, and where its program lies, which tells environments apart."""
    return f"{_machine()}, {path}"
