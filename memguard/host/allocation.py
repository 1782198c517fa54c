"""What a process can tell of its own memory from inside: malloc's books, descriptors, threads, kinds of mappings.

Comes in: psutil's view of malloc, /proc/self. Goes out: plain numbers, each some microseconds, but where it is said
otherwise. It frees nothing but what malloc keeps for later, and that only if it is asked to.
"""

from __future__ import annotations

import os
import resource
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from memguard.host._files import read_all, read_once
from memguard.host.process import read_process_memory
from memguard.host.shared import SharedMemoryFinder
from memguard.host.shared_names import SHARED_MEMORY, maker_of

__all__ = [
    "MallocBooks",
    "NewSharedMemory",
    "anonymous_bytes_now",
    "bytes_by_mapping",
    "exact_private_bytes_now",
    "mapped_bytes_now",
    "open_descriptors_now",
    "threads_now",
]

_STATM_SIZE: Final = 128
_FD_FOLDER: Final = "/proc/self/fd"
_TASK_FOLDER: Final = "/proc/self/task"
# Above pymalloc's 512 bytes, so that it goes to malloc, and below its threshold for mappings of their own.
_PROBE_BYTES: Final = 65536


class MallocBooks:
    """Reads what malloc has given out and not got back: mallinfo2 by way of psutil.

    Only where the C library's own malloc serves this process. Whether it does is tried, not looked up: under a
    preloaded allocator (jemalloc, mimalloc, tcmalloc) the library's books do not move when something is allocated.
    """

    def __init__(self) -> None:
        self._read, self._trim = _malloc_calls()

    @property
    def can_read(self) -> bool:
        """Whether the books are about the malloc that serves this process."""
        return self._read is not None

    def live_bytes(self) -> float:
        """Return bytes in use on all heaps and in mappings of malloc's own; ``nan`` where they cannot be read."""
        return float("nan") if self._read is None else float(self._read())

    def trim(self) -> bool:
        """Give back to the system what malloc keeps for later; False where there is no such call.

        Takes from microseconds to some milliseconds; memory that is asked for next is faulted in anew.
        """
        if self._trim is None:
            return False
        self._trim()
        return True


def _malloc_calls() -> tuple[Callable[[], int] | None, Callable[[], object] | None]:
    import psutil  # noqa: PLC0415 - whoever looks for no leak does not pay for it

    info = getattr(psutil, "heap_info", None)  # since psutil 7.2, on glibc, macOS, Windows and some BSDs
    if info is None:
        return None, None

    def live() -> int:
        books = info()
        return int(books.heap_used) + int(books.mmap_used)

    before = live()
    probe = bytearray(_PROBE_BYTES)
    moved = live() - before
    del probe
    return (live if moved >= _PROBE_BYTES else None), getattr(psutil, "heap_trim", None)


def anonymous_bytes_now() -> int:
    """Return resident memory without files and shared memory, as the kernel counts it at each page fault.

    Pages that were inherited by a fork count too; what matters here are differences over time. Between Linux
    6.2 and 6.15 the figure lags by up to 128 KiB and more with many processors.
    """
    fields = read_once("/proc/self/statm", _STATM_SIZE).split()
    return (int(fields[1]) - int(fields[2])) * resource.getpagesize()


def mapped_bytes_now() -> int:
    """Return the size of this process's address space: all that is mapped, whether it was ever touched or not."""
    return int(read_once("/proc/self/statm", _STATM_SIZE).split()[0]) * resource.getpagesize()


def exact_private_bytes_now() -> int:
    """Return the memory that only this process has (USS) by walking its page tables: 0.05 ms per MiB that it has.

    Without kernel support (smaps_rollup, Linux 4.14) the counted figure of `anonymous_bytes_now`.
    """
    try:
        return read_process_memory().private_bytes
    except OSError:
        return anonymous_bytes_now()


def open_descriptors_now() -> int:
    """Return how many descriptors this process has; the folder itself tells since Linux 6.2."""
    told = os.stat(_FD_FOLDER).st_size
    # The listing opens the folder, and so finds one more than there are.
    return told or len(os.listdir(_FD_FOLDER)) - 1


def threads_now() -> int:
    """Return how many threads this process has, those of native libraries included: each is a folder with a link."""
    return os.stat(_TASK_FOLDER).st_nlink - 2


class NewSharedMemory:
    """Adds up what came into /dev/shm since it was made, by this user, and is not somebody else's as far as is known.

    The kernel does not tell who made an entry. One that names another process, or that another process holds and
    this one does not (`drop_foreign`), is left out; one that nobody holds is counted, since it came meanwhile.
    """

    def __init__(self) -> None:
        self._foreign = {inode for inode, _ in _listed()}
        self._checked: set[int] = set()

    def bytes_now(self) -> int:
        """Return the pages of all new entries; an empty one counts as a page, since it takes that of the kernel."""
        new = [path for inode, path in _listed() if inode not in self._foreign]
        return sum(map(_entry_bytes, new)) if new else 0

    def drop_foreign(self) -> None:
        """Find out which new entries others hold, and forget those; some milliseconds if there are new ones."""
        new = {inode for inode, _ in _listed()} - self._foreign - self._checked
        if not new:
            return
        own = _inodes_held_by((os.getpid(),))
        others = _inodes_held_by(_other_pids())
        self._foreign |= new & (others - own)
        # A child's is the job's own; those that nobody holds are looked at again, their maker may open them later.
        self._checked |= new & own


def _listed() -> list[tuple[int, str]]:
    try:
        with os.scandir(SHARED_MEMORY) as listing:
            return [
                (each.inode(), each.path) for each in listing if maker_of(each.name) in (None, os.getpid())
            ]
    except OSError:
        return []  # a machine without it


def _entry_bytes(path: str) -> int:
    try:
        status = os.lstat(path)
    except OSError:
        return 0  # gone meanwhile
    if status.st_uid != os.getuid():
        return 0
    if stat.S_ISDIR(status.st_mode):
        return _folder_bytes(path)
    return max(status.st_blocks * 512, resource.getpagesize())


def _folder_bytes(path: str) -> int:
    try:
        return sum(_entry_bytes(os.path.join(path, name)) for name in os.listdir(path))
    except OSError:
        return 0  # gone meanwhile, or not ours to look into


def _inodes_held_by(pids: Iterable[int]) -> set[int]:
    return {file.inode for file in SharedMemoryFinder().find(pids)}


def _other_pids() -> list[int]:
    own = os.getpid()
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    return [pid for pid in pids if pid != own and _parent_of(pid) != own]


def _parent_of(pid: int) -> int:
    try:
        return int(read_once(f"/proc/{pid}/stat").rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return 0  # gone meanwhile


def bytes_by_mapping() -> dict[str, int]:
    """Return this process's private resident bytes by what they are mapped for; about a millisecond per 100 MiB.

    Keys: ``heap`` (the one heap that grows by brk), ``anonymous``, ``executable`` (anonymous memory that may be run,
    as a compiler makes it), ``stack``, and names of mapped files without their folders.
    """
    total: Counter[str] = Counter()
    label = ""
    for line in read_all("/proc/self/smaps").splitlines():
        fields = line.split(None, 5)
        if not fields[0].endswith(b":"):
            label = _mapping_label(fields[1], fields[5] if len(fields) > 5 else b"")
        elif fields[0] in (b"Private_Dirty:", b"Private_Clean:"):
            total[label] += int(fields[1]) * 1024
    return dict(+total)


def _mapping_label(permissions: bytes, path: bytes) -> str:
    if path.startswith(b"/"):
        return os.path.basename(os.fsdecode(path))
    if path in (b"[heap]", b"[stack]"):
        return path[1:-1].decode()
    return "executable" if b"x" in permissions else "anonymous"
