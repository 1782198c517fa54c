"""What this machine lets memguard do, each thing tried for real and, where it fails, with the reason."""

from __future__ import annotations

import errno
import functools
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from memguard.host import _libc
from memguard.host._files import read_once
from memguard.host.cgroups import find_places
from memguard.host.fence import create_fence
from memguard.host.fence_place import NoPlace, choose_place
from memguard.host.kill import HAS_PIDFD
from memguard.host.smaps import read_exact

__all__ = ["Abilities", "Ability", "probe"]

_PROBE_LIMIT_BYTES: Final = 64 * 1024**2
_ENOSYS_WORDS: Final = "this kernel or a seccomp filter does not have it"
# Asks for more private memory than RLIMIT_DATA allows; a kernel that enforces it refuses (Linux 4.7 on,
# not every container runtime's own kernel). In a process of its own, for a limit lowered here would
# make allocations of other threads fail.
_RLIMIT_TRIAL: Final = """
import mmap, resource, sys
hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
resource.setrlimit(resource.RLIMIT_DATA, (1 << 26, hard))
try:
    mmap.mmap(-1, 1 << 28, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
except OSError:
    sys.exit(0)
sys.exit(3)
"""


@dataclass(frozen=True, slots=True)
class Ability:
    """One thing that a machine can or cannot do.

    Attributes:
        available: whether it works here.
        reason: how that is known when it works, why not when it does not.
    """

    available: bool
    reason: str

    def __bool__(self) -> bool:
        return self.available


@dataclass(frozen=True, slots=True)
class Abilities:
    """What this machine can enforce and tell. Nothing here needs ptrace rights over other users' processes.

    Attributes:
        cgroup_version: ``v1``, ``v2``, ``hybrid`` (v2 and the memory controller of v1) or ``none``.
        fence: a memory cgroup with a limit could be made and removed.
        swap_accounting: a fence bounds swap as well.
        pidfd: processes can be held by descriptor, so that no signal hits a reused pid.
        process_mrelease: a killed process's memory can be freed at once.
        subreaper: orphans of a job come back to its supervisor.
        memfd: shared memory without a name.
        pressure: the kernel tells how much time is lost to waiting for memory.
        smaps_rollup: exact private memory at a bearable price.
        rlimit_data: RLIMIT_DATA bounds private memory of a single process.
    """

    cgroup_version: str
    fence: Ability
    swap_accounting: Ability
    pidfd: Ability
    process_mrelease: Ability
    subreaper: Ability
    memfd: Ability
    pressure: Ability
    smaps_rollup: Ability
    rlimit_data: Ability
    fence_kind: str

    @property
    def best_fence(self) -> str:
        """``cgroup-v2``, ``cgroup-v1``, ``rlimit`` (with polling) or ``none`` (polling alone)."""
        if self.fence:
            return self.fence_kind
        return "rlimit" if self.rlimit_data else "none"


@functools.cache
def probe() -> Abilities:
    """Try out what this machine can do; once a process, the answer is kept.

    Makes a cgroup and removes it, and starts one small process.
    """
    fence, swap, kind = _try_fence()
    return Abilities(
        cgroup_version=_cgroup_version(),
        fence=fence,
        swap_accounting=swap,
        pidfd=_try(_use_pidfd, "a process was held by descriptor"),
        process_mrelease=_try_mrelease(),
        subreaper=_try(_use_subreaper, "prctl accepts the flag"),
        memfd=_try(_use_memfd, "a memfd was made"),
        pressure=_try(lambda: read_once("/proc/pressure/memory"), "/proc/pressure/memory is readable"),
        smaps_rollup=_try(lambda: read_exact(os.getpid()), "/proc/PID/smaps_rollup is readable"),
        rlimit_data=_try_rlimit_data(),
        fence_kind=kind,
    )


def _try(trial: Callable[[], object], proof: str) -> Ability:
    try:
        trial()
    except AttributeError:
        return Ability(False, "this system, or this Python, does not offer it")
    except OSError as error:
        return Ability(False, str(error))
    return Ability(True, proof)


def _cgroup_version() -> str:
    try:
        kinds = {place.kind for place in find_places()}
    except OSError:
        return "none"
    if len(kinds) == 2:
        return "hybrid"
    return next((kind.removeprefix("cgroup-") for kind in kinds), "none")


def _try_fence() -> tuple[Ability, Ability, str]:
    place = choose_place()
    if isinstance(place, NoPlace):
        return Ability(False, place.reason), Ability(False, "there is no fence"), "none"
    try:
        fence = create_fence(place, "probe", _PROBE_LIMIT_BYTES)
    except OSError as error:
        reason = f"below {place.directory}: {error}"
        return Ability(False, reason), Ability(False, "there is no fence"), "none"
    with fence:
        swap = _swap_ability(fence.path, fence.kind)
    return Ability(True, f"one was made and removed below {place.directory}"), swap, place.kind


def _swap_ability(path: str, kind: str) -> Ability:
    name = "memory.swap.max" if kind == "cgroup-v2" else "memory.memsw.limit_in_bytes"
    if os.path.exists(f"{path}/{name}"):
        return Ability(True, f"{name} bounds it")
    return Ability(False, f"{name} is missing; start the kernel with swapaccount=1")


def _use_pidfd() -> None:
    if not HAS_PIDFD:
        raise AttributeError("pidfd_open")
    os.close(os.pidfd_open(os.getpid()))


def _try_mrelease() -> Ability:
    if not HAS_PIDFD:
        return Ability(False, "it needs pidfd")
    try:
        handle = os.pidfd_open(os.getpid())
    except OSError as error:
        return Ability(False, f"it needs pidfd: {error}")
    try:
        _libc.process_mrelease(handle)
    except AttributeError:
        return Ability(False, _ENOSYS_WORDS)
    except OSError as error:
        # Refused because this process is not dying: so the call exists.
        return _mrelease_answer(error)
    finally:
        os.close(handle)
    return Ability(True, "the call was accepted")


def _mrelease_answer(error: OSError) -> Ability:
    if error.errno == errno.EINVAL:
        return Ability(True, "the call exists")
    return Ability(False, f"{_ENOSYS_WORDS} ({error})")


def _use_subreaper() -> None:
    _libc.is_child_subreaper()


def _use_memfd() -> None:
    os.close(os.memfd_create("memguard-probe"))


def _try_rlimit_data() -> Ability:
    command = [sys.executable, "-I", "-S", "-c", _RLIMIT_TRIAL]
    try:
        code = subprocess.run(command, timeout=30, check=False, stderr=subprocess.DEVNULL).returncode
    except (OSError, subprocess.SubprocessError) as error:
        return Ability(False, f"could not be tried: {error}")
    if code == 0:
        return Ability(True, "an allocation beyond it was refused")
    return Ability(False, f"an allocation beyond it was not refused (trial ended with {code})")
