"""On what kind of file system a folder lies: whether locks and shared pages there hold between machines.

Comes in: a path. Goes out: the kind's name as the kernel has it, or ``""`` where it cannot be told.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

__all__ = ["file_system_of", "is_network"]

_MOUNTS: Final = "/proc/self/mountinfo"
# File systems that other machines write to as well; each is named as the kernel or its FUSE program names it.
_NETWORK: Final = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs", "fuse.rclone",
    "fuse.s3fs", "fuse.sshfs", "gfs2", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs",
})  # fmt: skip


def file_system_of(path: Path | str, mounts: str = _MOUNTS) -> str:
    """Return the kind of the file system that a path lies on, such as ``ext4``; ``""`` where it cannot be told.

    Raises:
        OSError: if there is nothing at the path.
    """
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path(mounts).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # no /proc
        return ""
    for line in reversed(lines):  # what was mounted last lies on top
        fields, _, after = line.partition(" - ")
        if fields.split()[2:3] == [wanted]:
            return after.split()[0]
    return ""


def is_network(kind: str) -> bool:
    """Whether other machines may write to a file system of this kind too."""
    return kind in _NETWORK
