"""The names of fences: each tells who made it, so that one whose owner died can be recognised."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from memguard.host.identity import identify, pid_namespace

__all__ = ["FenceOwner", "fence_name", "parse_fence_name"]

_UNFIT: Final = re.compile(r"[^A-Za-z0-9_.]+")
_NAME: Final = re.compile(r"memguard-[A-Za-z0-9_.]*-(?P<pid>\d+)-(?P<ticks>\d+)-(?P<namespace>\d+)")
# A file name may have 255 bytes; the owner takes up to 60 of them.
_LONGEST_WORD: Final = 64


@dataclass(frozen=True, slots=True)
class FenceOwner:
    """Who made a fence.

    Attributes:
        pid: process id within its pid namespace.
        start_ticks: see `memguard.host.readings.ProcessIdentity`.
        pid_namespace: inode of the namespace in which the pid means anything.
    """

    pid: int
    start_ticks: int
    pid_namespace: int


def fence_name(word: str, number: int = 0) -> str:
    """Name a fence of this process.

    Args:
        word: what it is for; characters that do not fit into a file name become ``_``.
        number: tells fences of the same word and owner apart.
    """
    me = identify()
    shown = _UNFIT.sub("_", word)[:_LONGEST_WORD] + (f".{number}" if number else "")
    return f"memguard-{shown}-{me.pid}-{me.start_ticks}-{pid_namespace()}"


def parse_fence_name(directory: str) -> FenceOwner | None:
    """Read the owner from the last part of a cgroup's path; ``None`` if it is no fence of memguard's."""
    match = _NAME.fullmatch(directory.rpartition("/")[2])
    if match is None:
        return None
    return FenceOwner(int(match["pid"]), int(match["ticks"]), int(match["namespace"]))
