"""The permissions that this process's new files do not get.

``os.umask`` can only tell it by changing it, for all threads at once; the kernel tells it in /proc.
"""

from __future__ import annotations

from memguard.host._files import read_once

__all__ = ["own_umask"]


def own_umask() -> int | None:
    """Return this process's umask; ``None`` where the system does not tell it."""
    try:
        lines = read_once("/proc/self/status").splitlines()
    except OSError:
        return None
    found = [int(line.split()[1], 8) for line in lines if line.startswith(b"Umask:")]
    return found[0] if found else None
