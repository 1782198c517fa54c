"""On what kind of file system a folder lies: whether locks and shared pages there hold between machines.

Comes in: a path. Goes out: the kind's name as the kernel has it, or ``""`` where it cannot be told.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

__all__ = ["file_system_of", "is_network"]

_MOUNTS: Final = "/proc/self/mountinfo"
# File systems that other machines write to as well, each as the kernel or its FUSE program names it. A database with a
# log in shared memory is damaged there even where locks reach across: machines do not share their memory.
_NETWORK: Final = frozenset({
    # Served by one machine: its locks are advisory at best, and pages are cached by each client.
    "9p", "afpfs", "afs", "cifs", "coda", "davfs", "davfs2", "fuse.afpfs", "fuse.curlftpfs", "fuse.davfs2",
    "fuse.gvfsd-fuse", "fuse.smbnetfs", "fuse.sshfs", "ncpfs", "nfs", "nfs4", "smb3", "smbfs",
    # Spread over several. Some (GFS2, OCFS2, GPFS, Lustre) lock across machines.
    "acfs", "beegfs", "ceph", "fuse.beegfs", "fuse.ceph", "fuse.ceph-fuse", "fuse.gfarm2fs", "fuse.glusterfs",
    "fuse.juicefs", "fuse.lizardfs", "fuse.mfs", "fuse.moosefs", "fuse.quobyte", "fuse.seaweedfs", "gfs2", "glusterfs",
    "gpfs", "lustre", "ocfs2", "orangefs", "panfs", "pvfs2", "wekafs",
    # Of objects in a store elsewhere: a write replaces the whole object, and there are no locks.
    "fuse.blobfuse", "fuse.blobfuse2", "fuse.gcsfuse", "fuse.goofys", "fuse.mount-s3", "fuse.mountpoint-s3",
    "fuse.rclone", "fuse.s3fs", "rclone",
    # A virtual machine's window into its host, which others look through too.
    "drvfs", "fakeowner", "fuse.grpcfuse", "fuse.osxfs", "fuse.portal", "fuse.vmhgfs-fuse", "prl_fs", "vboxsf",
    "virtiofs", "vmhgfs",
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
