"""The caller's side of templates: start one, reuse it, replace it when a job needs more imports, end it.

A `TemplatePool` belongs to one process and one owner, who closes it: from any thread, and from a signal handler in the
midst of anything. A template is reused by every job whose packages it has; a job that needs more gets a new one with
the union, and the old one ends with its last job. A forked copy of the owner's process holds no template.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final
from weakref import WeakSet

from memguard.errors import WorkerStartError
from memguard.host.descriptors import Descriptors
from memguard.worker.preload import root_of
from memguard.worker.protocol import Message, channel_pair, open_above_streams

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
# Jobs end within their grace when the pool is closed, whether somebody waits for it or not.
_CLOSE_WAIT_S: Final = 10.0
# A killed process leaves within milliseconds unless it has gigabytes to free or waits for a disk.
_GONE_WAIT_S: Final = 5.0


def _sticky(environment: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset(
        (name, value)
        for name, value in environment.items()
        if name in _STICKY_VARIABLES or name.startswith(_STICKY_PREFIXES)
    )


class Template:
    """One template process. Owns the process and the channel; `close` ends both. Serves once started and greeted.

    Args:
        modules: what it imports.
        fence: the kind that its jobs are expected to ask for.
        closing: an eventfd that tells its keepers when their jobs must end; stays the caller's.
    """

    def __init__(self, modules: frozenset[str], fence: str, closing: int) -> None:
        self.modules = modules
        self.roots = frozenset(root_of(each) for each in modules)
        self.sticky = _sticky(os.environ)
        self.missing: Mapping[str, str] = {}
        self._wishes = {"kind": "preload", "modules": sorted(modules), "owner": os.getpid(), "fence": fence}
        self._closing = closing
        self._process: subprocess.Popen[bytes] | None = None
        self._channel, self._theirs = channel_pair()

    def start(self) -> None:
        """Start the process.

        Raises:
            WorkerStartError: if the machine lets none be made.
        """
        try:
            self._process = _spawn(self._theirs.fileno())
        except OSError as error:
            raise WorkerStartError(f"no worker could be started: {error}") from error
        finally:
            self._theirs.close()
        self._channel.send(self._wishes, [self._closing])

    @property
    def pid(self) -> int:
        """The process id of the template."""
        assert self._process is not None
        return self._process.pid

    def greet(self) -> None:
        """Wait until it has imported what it must.

        Raises:
            WorkerStartError: if it died over it, or was killed meanwhile.
        """
        received = self._channel.receive()
        if received is None:
            status = self._end_within(_GONE_WAIT_S)
            imports = ", ".join(sorted(self.roots)) or "memguard"
            raise WorkerStartError(
                f"the worker template died with status {status} while importing {imports}; "
                f"try `{sys.executable} -c 'import {imports}'`"
            )
        self.missing = received[0]["missing"]

    def serves(self, roots: frozenset[str]) -> bool:
        """Whether it lives, has the packages, and saw the same settings of thread pools and allocators."""
        return self.roots >= roots and self.sticky == _sticky(os.environ) and not self.has_ended()

    def submit(self, message: Message, descriptors: Sequence[int]) -> bool:
        """Hand over a job; False if the template is gone."""
        return self._channel.send(message, descriptors)

    def close(self, wait_s: float = _CLOSE_WAIT_S) -> None:
        """End the template once its jobs have ended; waits for it, and kills it if it takes too long."""
        self.retire()
        if self._end_within(wait_s) is None:
            self.kill()

    def retire(self) -> None:
        """Let the template end once its jobs have ended; does not wait for it."""
        # Not only this end is closed: a forked copy of this process may have a copy of it for as long as it lives.
        self._channel.hang_up()

    def has_ended(self) -> bool:
        """Whether its process is gone."""
        return self._process is None or self._process.poll() is not None

    def kill(self) -> None:
        """End the template now; its keepers go on without it."""
        self._channel.hang_up()
        self._theirs.close()
        if self._process is not None:
            self._process.kill()
        self._end_within(_GONE_WAIT_S)

    def _end_within(self, wait_s: float) -> int | None:
        # Never without a limit: then Popen would hold a lock that a signal handler in this thread waits for.
        try:
            return 0 if self._process is None else self._process.wait(max(0.0, wait_s))
        except subprocess.TimeoutExpired:
            return None

    def abandon(self) -> None:
        """Let go in a forked copy of the owner: the process is not this one's child."""
        self._channel.abandon()
        self._theirs.abandon()
        if self._process is not None:
            self._process.returncode = 0  # else Popen would wait for it, or complain


def _spawn(descriptor: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _BOOTSTRAP, str(descriptor), json.dumps(sys.path)]
    # A session of its own: Ctrl-C at the terminal is for the caller, who passes it on.
    return subprocess.Popen(
        command,
        pass_fds=[descriptor],
        stdin=subprocess.DEVNULL,
        stdout=None if _is_inherited(1) else subprocess.DEVNULL,
        stderr=None if _is_inherited(2) else subprocess.DEVNULL,
        start_new_session=True,
        close_fds=True,
    )


def _is_inherited(descriptor: int) -> bool:
    """Whether a program that is started has it: what fills a closed stream's place for a while is not passed on."""
    return is_open(descriptor) and os.get_inheritable(descriptor)


def is_open(descriptor: int) -> bool:
    """Whether a descriptor of this process is open; a daemon's standard streams may not be."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


class _Start:
    """One start of a template: several threads may wait for it, one carries it out.

    Attributes:
        modules: what the template is to import.
        under_way: held from before anybody knows of the start to its end. A lock as a context manager has no line on
            which Ctrl-C could come before it is released, nor could a signal handler find it half locked.
    """

    def __init__(self, modules: frozenset[str]) -> None:
        self.modules = modules
        self.template: Template | None = None
        self.failure = ""
        self.under_way = threading.Lock()
        self._thread = threading.get_ident()

    @property
    def roots(self) -> frozenset[str]:
        """The packages of its modules."""
        return frozenset(root_of(each) for each in self.modules)

    def wait(self) -> None:
        """Wait for the end of the start.

        Raises:
            WorkerStartError: in the thread that carries it out.
        """
        if self._thread == threading.get_ident():
            raise WorkerStartError(
                "this thread is starting a worker already; a signal handler cannot have another"
            )
        with self.under_way:
            pass

    def check(self, roots: frozenset[str]) -> None:
        """Tell whether another start with ``roots`` is worth a try.

        Raises:
            WorkerStartError: if this one failed, and had them too.
        """
        if self.failure and self.roots >= roots:
            raise WorkerStartError(self.failure)


class TemplatePool:
    """The templates of one owner; thread-safe.

    Args:
        fence: the kind that its jobs ask for, see `memguard.worker.fencing`; another one makes them start slower.
    """

    def __init__(self, fence: str = "auto") -> None:
        self._fence = fence
        # Held for moments only, never while a template starts; reentrant, for a signal handler may close the pool.
        self._lock = threading.RLock()
        self._current: Template | None = None
        self._retired: list[Template] = []
        self._starting: _Start | None = None
        self._closing = Descriptors()
        self._closed = False
        _pools.add(self)

    def template_for(self, modules: frozenset[str]) -> Template:
        """Return a template that has the packages of ``modules``, starting one if need be.

        Raises:
            WorkerStartError: if it cannot be started, or the pool is closed.
        """
        roots = frozenset(root_of(each) for each in modules)
        while True:
            start = _Start(modules)
            with start.under_way:
                found = self._find_or_begin(roots, start)
                if found is start:
                    return self._carry_out(start)
            if isinstance(found, Template):
                return found
            found.wait()
            self._check_open()
            found.check(roots)

    def _find_or_begin(self, roots: frozenset[str], start: _Start) -> Template | _Start:
        """Return a template that serves, else the start that is under way, which is the given one if there was none."""
        with self._lock:
            self._check_open()
            if self._current is not None and self._current.serves(roots):
                return self._current
            if self._starting is not None and self._starting.under_way.locked():
                return self._starting
            if not self._closing:
                self._closing = open_above_streams(os.eventfd, 0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            if self._current is not None:
                start.modules |= self._current.modules
            if self._starting is not None and self._starting.template is not None:
                self._starting.template.retire()  # Ctrl-C kept the one who began it even from this
            self._starting = start
            return start

    def _check_open(self) -> None:
        if self._closed:
            raise WorkerStartError("the manager is closed")

    def _carry_out(self, start: _Start) -> Template:
        try:
            template = start.template = Template(start.modules, self._fence, self._closing.fileno())
            template.start()
            self._check_open()  # who closed the pool before this may not have seen the template
            template.greet()
            self._install(template)
        except BaseException as error:  # Ctrl-C among them: its imports take seconds
            if start.template is not None:
                start.template.kill()
            if isinstance(error, WorkerStartError):
                self._check_open()
                # Its words only: the error has the frames of its caller, and with them all that he holds.
                start.failure = str(error)
            raise
        finally:
            self._starting = None
            self._close_closing()
        return template

    def _install(self, template: Template) -> None:
        """Let a new template serve from now on, and the one before it end with its jobs."""
        with self._lock:
            self._check_open()
            former = self._templates()
            self._retired = [each for each in former if not each.has_ended()]
            self._current = template
        for each in former:  # all, for Ctrl-C may have come before the last one was
            each.retire()

    def _templates(self) -> list[Template]:
        return [*self._retired, *([self._current] if self._current else [])]

    def _forget_parents_templates(self) -> None:
        starting = self._starting.template if self._starting is not None else None
        for template in (*self._templates(), *([starting] if starting else [])):
            template.abandon()
        self._retired, self._current, self._starting = [], None, None
        self._closing.close()
        # The thread that held it at the fork does not exist here.
        self._lock = threading.RLock()

    def close(self) -> None:
        """End all templates, and the jobs that still run; once or many times.

        Each job is asked to end and killed after its grace, also where this returns before that.
        """
        with self._lock:
            self._closed = True
            templates, start = self._templates(), self._starting
            if self._closing:
                os.eventfd_write(self._closing.fileno(), 1)  # nobody reads it: all who hold it see it
        if start is not None and start.template is not None:
            start.template.kill()
        for template in templates:
            template.retire()
        deadline_s = time.monotonic() + _CLOSE_WAIT_S
        for template in templates:
            template.close(deadline_s - time.monotonic())
        self._retired, self._current = [], None
        self._close_closing()

    def _close_closing(self) -> None:
        """Close the descriptor that tells of the closing, once that is told and no start needs it any more."""
        with self._lock:
            if self._closed and (self._starting is None or not self._starting.under_way.locked()):
                self._closing.close()


def _forget_in_child() -> None:
    for pool in list(_pools):
        pool._forget_parents_templates()


_pools: WeakSet[TemplatePool] = WeakSet()
os.register_at_fork(after_in_child=_forget_in_child)
