"""The caller's side of templates: start one, reuse it, replace it when a job needs more imports, end it.

A `TemplatePool` belongs to one process and one owner, who closes it. A template is reused by every job whose packages
it has; a job that needs more gets a new one with the union, and the old one ends with its last job. A forked copy
of the owner's process holds no template.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Final
from weakref import WeakSet

from memguard.errors import WorkerStartError
from memguard.worker.preload import root_of
from memguard.worker.protocol import Message, channel_pair

__all__ = ["Template", "TemplatePool", "is_open"]

# Read once, when a library is imported: a template that was started with other values cannot serve.
_STICKY_VARIABLES: Final = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "PYTHONHASHSEED", "PYTHONMALLOC",
    "LD_PRELOAD",
)  # fmt: skip
_STICKY_PREFIXES: Final = ("NUMBA_",)
_BOOTSTRAP: Final = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]); "
    "from memguard.worker.template import main; main(int(sys.argv[1]))"
)
_CLOSE_WAIT_S: Final = 10.0


def _sticky(environment: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset(
        (name, value)
        for name, value in environment.items()
        if name in _STICKY_VARIABLES or name.startswith(_STICKY_PREFIXES)
    )


class Template:
    """One running template process. Owns the process and the channel; `close` ends both."""

    def __init__(self, modules: frozenset[str], fence: str) -> None:
        self.modules = modules
        self._fence = fence
        self.roots = frozenset(root_of(each) for each in modules)
        self.sticky = _sticky(os.environ)
        self.missing: Mapping[str, str] = {}
        self._channel, theirs = channel_pair()
        try:
            self._process = _spawn(theirs.fileno())
        except OSError as error:
            self._channel.close()
            raise WorkerStartError(f"no worker could be started: {error}") from error
        finally:
            theirs.close()
        try:
            self._greet()
        except BaseException:  # Ctrl-C among them: its imports take seconds
            self._kill()
            raise

    @property
    def pid(self) -> int:
        """The process id of the template."""
        return self._process.pid

    def _greet(self) -> None:
        self._channel.send(
            {
                "kind": "preload",
                "modules": sorted(self.modules),
                "owner": os.getpid(),
                "fence": self._fence,
            }
        )
        received = self._channel.receive()
        if received is None:
            status = self._process.wait()
            imports = ", ".join(sorted(self.roots)) or "memguard"
            raise WorkerStartError(
                f"the worker template died with status {status} while importing {imports}; "
                f"try `{sys.executable} -c 'import {imports}'`"
            )
        self.missing = received[0]["missing"]

    def serves(self, roots: frozenset[str]) -> bool:
        """Whether it lives, has the packages, and saw the same settings of thread pools and allocators."""
        return self.roots >= roots and self.sticky == _sticky(os.environ) and self._process.poll() is None

    def submit(self, message: Message, descriptors: Sequence[int]) -> bool:
        """Hand over a job; False if the template is gone."""
        return self._channel.send(message, descriptors)

    def close(self) -> None:
        """End the template once its jobs have ended; waits for it."""
        self.retire()
        try:
            self._process.wait(_CLOSE_WAIT_S)
        except subprocess.TimeoutExpired:
            self._kill()

    def retire(self) -> None:
        """Let the template end once its jobs have ended; does not wait for it."""
        # Not only this end is closed: a forked copy of this process may have a copy of it for as long as it lives.
        self._channel.hang_up()

    def has_ended(self) -> bool:
        """Whether its process is gone."""
        return self._process.poll() is not None

    def _kill(self) -> None:
        self._channel.hang_up()
        self._process.kill()
        self._process.wait()

    def abandon(self) -> None:
        """Let go in a forked copy of the owner: the process is not this one's child."""
        self._channel.abandon()
        self._process.returncode = 0  # else Popen would wait for it, or complain


def _spawn(descriptor: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _BOOTSTRAP, str(descriptor), json.dumps(sys.path)]
    # A session of its own: Ctrl-C at the terminal is for the caller, who passes it on.
    return subprocess.Popen(
        command,
        pass_fds=[descriptor],
        stdin=subprocess.DEVNULL,
        stdout=None if is_open(1) else subprocess.DEVNULL,
        stderr=None if is_open(2) else subprocess.DEVNULL,
        start_new_session=True,
        close_fds=True,
    )


def is_open(descriptor: int) -> bool:
    """Whether a descriptor of this process is open; a daemon's standard streams may not be."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


class TemplatePool:
    """The templates of one owner; thread-safe.

    Args:
        fence: the kind that its jobs ask for, see `memguard.worker.fencing`; another one makes them start slower.
    """

    def __init__(self, fence: str = "auto") -> None:
        self._fence = fence
        self._lock = threading.Lock()
        self._current: Template | None = None
        self._retired: list[Template] = []
        self._closed = False
        _pools.add(self)

    def template_for(self, modules: frozenset[str]) -> Template:
        """Return a template that has the packages of ``modules``, starting one if need be.

        Raises:
            WorkerStartError: if it cannot be started, or the pool is closed.
        """
        roots = frozenset(root_of(each) for each in modules)
        with self._lock:
            if self._closed:
                raise WorkerStartError("the manager is closed")
            if self._current is None or not self._current.serves(roots):
                self._replace(modules)
            assert self._current is not None
            return self._current

    def _replace(self, modules: frozenset[str]) -> None:
        known: frozenset[str] = frozenset()
        self._retired = [each for each in self._retired if not each.has_ended()]
        if self._current is not None:
            known = self._current.modules
            self._current.retire()
            self._retired.append(self._current)
            self._current = None
        self._current = Template(modules | known, self._fence)

    def _forget_parents_templates(self) -> None:
        for template in (*self._retired, *([self._current] if self._current else [])):
            template.abandon()
        self._retired, self._current = [], None
        # The thread that held it at the fork does not exist here.
        self._lock = threading.Lock()

    def close(self) -> None:
        """End all templates; once or many times."""
        with self._lock:
            self._closed = True
            templates = [*self._retired, *([self._current] if self._current else [])]
            self._retired, self._current = [], None
        for template in templates:
            template.close()


def _forget_in_child() -> None:
    for pool in list(_pools):
        pool._forget_parents_templates()


_pools: WeakSet[TemplatePool] = WeakSet()
os.register_at_fork(after_in_child=_forget_in_child)
