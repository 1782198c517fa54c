"""The few kernel calls that Python's own modules do not offer.

ctypes is imported at the first call, so that nothing pays for it at import time and a program on a
system without these calls never loads it.
"""

from __future__ import annotations

import functools
import mmap
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ctypes

__all__ = [
    "is_child_subreaper",
    "lock_all_memory",
    "madvise_collapse",
    "map_file",
    "prctl",
    "process_mrelease",
    "signalfd",
    "unmap_file",
]

_PR_GET_CHILD_SUBREAPER: Final = 37
# The number is the same on every architecture but alpha: calls since 424 share one table.
_PROCESS_MRELEASE: Final = 448
_MADV_COLLAPSE: Final = 25
# MCL_CURRENT, MCL_FUTURE and MCL_ONFAULT (Linux 4.4): what was never used takes no memory for being locked.
_LOCK_ALL_ON_FAULT: Final = 1 | 2 | 4
# A sigset_t of glibc; musl's and the kernel's are smaller.
_SIGSET_BYTES: Final = 128
_MAP_FAILED: Final = 2**64 - 1


@functools.cache
def _libc() -> ctypes.CDLL:
    import ctypes  # noqa: PLC0415 - see the module's docstring

    library = ctypes.CDLL(None, use_errno=True)
    # Variadic in C: without explicit types the arguments would be passed as 32-bit ints.
    library.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    library.prctl.restype = ctypes.c_int
    library.syscall.argtypes = [ctypes.c_long] * 3
    library.syscall.restype = ctypes.c_long
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    library.madvise.restype = ctypes.c_int
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    library.mmap.restype = ctypes.c_void_p
    library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.munmap.restype = ctypes.c_int
    library.mlockall.argtypes = [ctypes.c_int]
    library.mlockall.restype = ctypes.c_int
    library.signalfd.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
    library.signalfd.restype = ctypes.c_int
    return library


def _check(result: int, call: str) -> int:
    import ctypes  # noqa: PLC0415 - see the module's docstring

    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result


def prctl(option: int, first: int = 0, second: int = 0) -> int:
    """Ask the kernel something about the calling process.

    Raises:
        OSError: when the kernel refuses.
        AttributeError: on systems whose C library has no such function.
    """
    return _check(_libc().prctl(option, first, second, 0, 0), "prctl")


def is_child_subreaper() -> bool:
    """Tell whether this process adopts the orphans below it.

    Raises:
        OSError: when the kernel refuses.
        AttributeError: on systems without prctl.
    """
    import ctypes  # noqa: PLC0415 - see the module's docstring

    flag = ctypes.c_int()
    prctl(_PR_GET_CHILD_SUBREAPER, ctypes.addressof(flag))
    return bool(flag.value)


def madvise_collapse(address: int, length: int) -> None:
    """Gather a range of memory into huge pages now.

    Raises:
        OSError: when the kernel cannot or does not know how (before Linux 6.1).
        AttributeError: on systems without madvise.
    """
    _check(_libc().madvise(address, length, _MADV_COLLAPSE), "madvise")


def lock_all_memory() -> None:
    """Keep this process's pages in memory, each from its first use on.

    Raises:
        OSError: when the kernel refuses.
        AttributeError: on systems without mlockall.
    """
    _check(_libc().mlockall(_LOCK_ALL_ON_FAULT), "mlockall")


def process_mrelease(pidfd: int) -> None:
    """Free the memory of a process that is already dying, without waiting for it to be scheduled.

    Raises:
        OSError: ``ENOSYS`` before Linux 5.15, ``EINVAL`` when the process is not dying, ``ESRCH`` when
            its memory is gone already.
    """
    _check(_libc().syscall(_PROCESS_MRELEASE, pidfd, 0), "process_mrelease")


def signalfd(numbers: Iterable[int]) -> int:
    """Open a descriptor from which blocked signals can be read without waiting.

    Raises:
        OSError: when the kernel refuses.
        AttributeError: on systems without it.
    """
    import ctypes  # noqa: PLC0415 - see the module's docstring

    wanted = ctypes.create_string_buffer(_SIGSET_BYTES)
    library = _libc()
    library.sigemptyset(wanted)
    for number in numbers:
        library.sigaddset(wanted, number)
    # SFD_CLOEXEC and SFD_NONBLOCK have the values of the flags of open.
    return _check(library.signalfd(-1, wanted, os.O_CLOEXEC | os.O_NONBLOCK), "signalfd")


def map_file(descriptor: int, size_bytes: int) -> tuple[int, memoryview]:
    """Map a file for reading and writing, shared with everybody; returns where, and a view of it.

    Python's own mmap keeps a copy of the descriptor (3.13 can be told not to): a job would have it among its own.

    Raises:
        OSError: if the kernel refuses.
    """
    import ctypes  # noqa: PLC0415 - see the module's docstring

    address = _libc().mmap(None, size_bytes, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, descriptor, 0)
    if address is None or address == _MAP_FAILED:
        _check(-1, "mmap")
    return address, memoryview((ctypes.c_char * size_bytes).from_address(address)).cast("B")


def unmap_file(address: int, size_bytes: int) -> None:
    """Take a mapping away; nobody may have a view of it any more.

    Raises:
        OSError: if there is none.
    """
    _check(_libc().munmap(address, size_bytes), "munmap")
