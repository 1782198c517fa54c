"""Recorded machines: /proc and /sys/fs/cgroup as files in a directory, built line by line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

MIB = 1024**2


class RecordedMachine:
    """A directory that `read_machine(root=...)` takes for a machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._mounts = ["22 27 0:21 / /proc rw,relatime - proc proc rw"]
        self.meminfo(total_mib=16384, available_mib=12288)
        self.cgroups("0::/\n")
        self._write_mounts()

    def write(self, path: str, text: str) -> Path:
        """Write a file below the root, and the directories above it."""
        target = Path(f"{self.root}{path}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    def meminfo(self, total_mib: int, available_mib: int | None, **others_mib: int) -> None:
        """Say how much memory the machine has."""
        figures = {"MemTotal": total_mib, "MemFree": 1024, "MemAvailable": available_mib, **others_mib}
        lines = [f"{key}: {value * 1024:>12} kB" for key, value in figures.items() if value is not None]
        self.write("/proc/meminfo", "\n".join([*lines, "HugePages_Total:       0"]) + "\n")

    def cgroups(self, text: str) -> None:
        """Say in which cgroups the process is: the content of /proc/self/cgroup."""
        self.write("/proc/self/cgroup", text)

    def mount(self, point: str, kind: str = "cgroup", options: str = "rw,memory", root: str = "/") -> None:
        """Mount a cgroup hierarchy; names are written as the kernel writes them."""
        self._mounts.append(f"3{len(self._mounts)} 31 0:4 {root} {point} rw shared:9 - {kind} none {options}")
        self._write_mounts()

    def _write_mounts(self) -> None:
        self.write("/proc/self/mountinfo", "\n".join(self._mounts) + "\n")

    def group_v1(
        self, path: str, *, limit: int = 2**63 - 4096, usage: int = 0, stat: Mapping[str, int] | None = None
    ) -> None:
        """Make a v1 memory cgroup with its files; figures in bytes."""
        self.write(f"{path}/memory.limit_in_bytes", f"{limit}\n")
        self.write(f"{path}/memory.usage_in_bytes", f"{usage}\n")
        self.write(f"{path}/memory.use_hierarchy", "1\n")
        self.write(f"{path}/memory.stat", _flat(stat))

    def group_v2(
        self, path: str, *, limit: int | str = "max", usage: int = 0, stat: Mapping[str, int] | None = None
    ) -> None:
        """Make a v2 cgroup with its memory files; figures in bytes."""
        self.write(f"{path}/memory.max", f"{limit}\n")
        self.write(f"{path}/memory.current", f"{usage}\n")
        self.write(f"{path}/memory.stat", _flat(stat))
        self.write(f"{path}/cgroup.subtree_control", "\n")
        self.write(f"{path}/cgroup.procs", "")

    def make_unreadable(self, path: str) -> None:
        """Put a directory where a file was: reading it fails for every user, root too."""
        target = Path(f"{self.root}{path}")
        target.unlink()
        os.mkdir(target)


def _flat(stat: Mapping[str, int] | None) -> str:
    return "".join(f"{key} {value}\n" for key, value in (stat or {}).items())


@pytest.fixture
def recorded(tmp_path: Path) -> RecordedMachine:
    """A machine of 16 GiB, 4 GiB of them used, with no cgroup mounted yet."""
    return RecordedMachine(tmp_path / "machine")
