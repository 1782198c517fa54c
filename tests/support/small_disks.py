"""File systems that are soon full, of which nothing is left however the test ends.

Each is mounted in the mount namespace of a child, which lives as long as the pipe to its input does, and is reached
through the child's root: the test's own namespace never sees it, and the kernel unmounts it with the child.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["small_disk_of"]


@contextmanager
def small_disk_of(size_bytes: int, folder: Path) -> Iterator[Path]:
    """Give a path to an empty file system of a size, mounted over a folder in another namespace.

    The test is skipped where nothing can be mounted.
    """
    script = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && echo mounted && exec cat'
    words = ["unshare", "--mount", "--propagation=private", "/bin/sh", "-c", script, "sh"]
    with subprocess.Popen(
        [*words, str(size_bytes), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        if child.stdout.readline() != "mounted\n":
            pytest.skip(f"no file system can be mounted here: {child.stderr.read().strip()}")
        yield Path(f"/proc/{child.pid}/root", *folder.parts[1:])
