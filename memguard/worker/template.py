"""The template: a process that has imported what jobs need and does nothing but fork keepers.

Comes in: over one channel, first what to import, then jobs. Goes out: a keeper per job (`memguard.worker.keeper`).
Single-threaded, runs no job code itself, ends with its last keeper once the caller's end of the channel closes. It is
the subreaper above the keepers: if one is killed, what its job left comes here and is swept up.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Final, NoReturn

from memguard.host import (
    become_subreaper,
    children_of,
    collapse_anonymous_memory,
    kill_processes,
    sweep_stale_fences,
)
from memguard.log import preserved_logging
from memguard.worker.call import allow_large_files
from memguard.worker.keeper import wait_and_keep
from memguard.worker.protocol import Channel, channel_pair

__all__ = ["main"]

# After the caller is gone, or closes, its keepers end their jobs; the template stays this long at most to sweep after
# them.
_LAST_KEEPERS_S: Final = 30.0


def main(descriptor: int) -> None:
    """Serve the caller at the other end of ``descriptor`` until it closes."""
    become_subreaper()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    allow_large_files()  # results lie in files; each job gets the limit of its caller, see `memguard.worker.call`
    with Channel.adopt(descriptor) as caller:
        received = caller.receive()
        if received is None:
            return
        message, descriptors = received
        (closing,) = descriptors.give_away()
        # Its parent, until that dies: the end of the channel alone does not tell, a forked copy may hold it open.
        owner = os.pidfd_open(message["owner"])
        if os.getppid() != message["owner"]:
            return
        caller.send({"kind": "ready", "missing": _preload(message["modules"])})
        _Template(caller, owner, closing, message["fence"]).serve()


def _preload(modules: Sequence[str]) -> dict[str, str]:
    """Import ``modules``; returns what could not be imported and why: the job will meet the same error itself."""
    missing = {}
    gc.disable()  # nothing of an import is garbage, and a collection would only touch pages
    with preserved_logging(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in modules:
            try:
                importlib.import_module(name)
            except Exception as error:  # noqa: BLE001 - a module may raise anything when it is imported
                missing[name] = f"{type(error).__name__}: {error}"[:500]
    # Frozen objects are never traversed again, so that a job's collector does not copy the template's pages.
    gc.freeze()
    gc.enable()
    if modules:
        collapse_anonymous_memory()
    return missing


class _Template:
    """Serves one caller. Keeps one keeper forked ahead, so that a job waits for one fork and not for two."""

    def __init__(self, caller: Channel, owner: int, closing: int, fence: str) -> None:
        self._caller = caller
        self._closing = closing
        self._fence = fence
        self._owner = owner
        self._keepers: dict[int, int] = {}  # pidfd -> pid
        # What an import has started belongs to the template, not to a job.
        self._helpers = frozenset(children_of(os.getpid()))
        self._poll = select.poll()
        self._poll.register(caller.fileno(), select.POLLIN)
        self._poll.register(owner, select.POLLIN)
        # Forking beside native threads (BLAS pools, started by the imports) is what a template is for.
        warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
        self._spare = self._fork_keeper()

    def serve(self) -> None:
        """Work until the caller closes its end, then outlast the keepers."""
        while True:
            ready = {descriptor for descriptor, _ in self._poll.poll()}
            for pidfd in ready & self._keepers.keys():
                self._reap(pidfd)
            if self._owner in ready or (self._caller.fileno() in ready and not self._take_job()):
                break
        self._spare.close()
        self._outlast_keepers()

    def _take_job(self) -> bool:
        received = self._caller.receive()
        if received is None:
            return False
        message, descriptors = received
        if not self._spare.send(message, descriptors):  # somebody killed the one that waited
            self._renew_spare()
            self._spare.send(message, descriptors)
        descriptors.close()
        self._renew_spare()
        return True

    def _renew_spare(self) -> None:
        self._spare.close()
        self._spare = self._fork_keeper()

    def _fork_keeper(self) -> Channel:
        """Fork a keeper that waits for its job at the other end of the returned channel."""
        ours, theirs = channel_pair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._caller.close()
            for pidfd in (self._owner, *self._keepers):
                os.close(pidfd)
            _be_keeper(theirs, self._closing, self._fence)
        theirs.close()
        pidfd = os.pidfd_open(pid)
        self._keepers[pidfd] = pid
        self._poll.register(pidfd, select.POLLIN)
        return ours

    def _reap(self, pidfd: int) -> None:
        pid = self._keepers.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        # Whatever it left comes here; each that is killed may hand over children of its own.
        while orphans := self._orphans():
            kill_processes(orphans, signal.SIGKILL)
            for orphan, _ in orphans:
                os.waitpid(orphan, 0)
        if status != 0:
            self._sweep()

    def _orphans(self) -> list[tuple[int, int]]:
        keepers = set(self._keepers.values())
        return [
            child
            for child in children_of(os.getpid())
            if child[0] not in keepers and child not in self._helpers
        ]

    def _sweep(self) -> None:
        """Remove the fence of a keeper that was killed: it names a dead owner."""
        with contextlib.suppress(OSError):  # the next start sweeps again
            sweep_stale_fences()

    def _outlast_keepers(self) -> None:
        """Sweep after the keepers that are left: as long as they take while the caller wants their jobs."""
        self._poll.unregister(self._caller.fileno())
        self._poll.register(self._closing, select.POLLIN)
        wait_s = None
        while self._keepers:
            ready = {descriptor for descriptor, _ in self._poll.poll(wait_s and wait_s * 1000)}
            if not ready:
                return
            for pidfd in ready & self._keepers.keys():
                self._reap(pidfd)
            for ending in ready & {self._owner, self._closing}:
                self._poll.unregister(ending)
                wait_s = _LAST_KEEPERS_S


def _be_keeper(template: Channel, closing: int, fence: str) -> NoReturn:
    status = 1
    try:
        wait_and_keep(template, closing, fence)
        status = 0
    except BaseException:  # noqa: BLE001 - the last line of a process: told, and in its status
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
