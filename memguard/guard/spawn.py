"""Having a sentinel: whoever has a lease looks now and then whether one watches, and starts one where none does.

Comes in: the settings, the folder of the ledger, the domain. Goes out: at most one process, which nobody needs to wait
for and nobody owns: it belongs to the domain and ends soon after its last lease.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memguard.guard.orders import LINGER_S, Orders
from memguard.guard.single import sentinel_of
from memguard.host import is_alive, kill_processes
from memguard.host.cgroups import find_places
from memguard.host.fence_names import parse_fence_name
from memguard.host.process import age_s, command_line
from memguard.ledger.beacon import domain_file, sight_at
from memguard.ledger.records import LEASE_VARIABLE
from memguard.ledger.room import Shares
from memguard.ledger.seat import SIGHT

__all__ = ["SENTINEL_MARK", "ensure_sentinel", "is_sentinel", "start_sentinel"]

# In its command line, so that whoever clears up after a job can tell it from what the job left.
SENTINEL_MARK: Final = "memguard-sentinel"
_LOOK_EVERY_S: Final = 0.25
# A fifth of a second; on a machine that has no processor left for it, far more.
_START_TAKES_S: Final = 15.0
# Where a start comes to nothing it is tried again, less often each time.
_START_AGAIN_S: Final = 1.0
_START_SELDOM_S: Final = 30.0
_SHELL: Final = "/bin/sh"
_SHELL_S: Final = 5.0
# What an interpreter may need to find its own libraries; everything else is told by arguments.
_KEPT_VARIABLES: Final = ("LD_LIBRARY_PATH", "PATH", "TZ")
_BOOTSTRAP: Final = (
    "import json, sys; orders = json.loads(sys.argv[2]); sys.path += orders.pop('path'); "
    "from memguard.guard.sentinel import main; main(orders)"
)


@dataclass(slots=True)
class _Attempts:
    """What this process did last for one domain."""

    look_at_s: float = 0.0
    start_at_s: float = 0.0
    in_vain_since_s: float = math.inf
    pause_s: float = _START_AGAIN_S


_attempts: dict[tuple[Path, str, int], _Attempts] = {}
_lock = threading.Lock()


def _renew_lock() -> None:
    global _lock  # noqa: PLW0603 - the thread that held it at the fork does not exist in the copy
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def ensure_sentinel(settings: Shares, folder: Path, domain: str, *, linger_s: float = LINGER_S) -> str:
    """Start a sentinel for a domain where none watches; to be called again and again by whoever has a lease there.

    Costs a microsecond, four times a second a fifth of a millisecond, and some milliseconds where one must be started:
    it does not wait until that one watches. One that was stopped, or hangs, is killed, and another one started.

    Args:
        settings: what jobs may have of the machine.
        folder: where the ledger is.
        domain: whose memory; see `memguard.ledger.records.Room`.
        linger_s: how long it stays when there are no leases.

    Returns:
        Why none could be started, or ``""``.
    """
    now_s = time.monotonic()
    key = folder, domain, os.getpid()
    with _lock:
        attempts = _attempts.setdefault(key, _Attempts())
        if now_s < attempts.look_at_s:
            return ""
        attempts.look_at_s = now_s + _LOOK_EVERY_S
        if _is_watched(folder, domain):
            _attempts[key] = _Attempts(look_at_s=attempts.look_at_s)
            return ""
        if now_s < attempts.start_at_s or not _may_start():
            return ""
        attempts.in_vain_since_s = min(attempts.in_vain_since_s, now_s)
        attempts.start_at_s = now_s + attempts.pause_s
        attempts.pause_s = min(2 * attempts.pause_s, _START_SELDOM_S)
        try:
            start_sentinel(settings, folder, domain, linger_s=linger_s)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"nobody watches the machine's memory: a sentinel could not be started: {error}"
        tried_s = now_s - attempts.in_vain_since_s
        return _tell_in_vain(tried_s) if tried_s >= _START_TAKES_S else ""


def _tell_in_vain(tried_s: float) -> str:
    return f"nobody watches the machine's memory: what was started for it in {tried_s:.0f} s did not stay"


def _is_watched(folder: Path, domain: str) -> bool:
    """Whether a sentinel lives and looks, or has just been started; one that is stuck is killed."""
    who = sentinel_of(folder, domain)
    if who is None or not is_alive(who):
        return False
    try:
        sight = sight_at(domain_file(folder, SIGHT, domain))
    except OSError:
        sight = None
    looked = sight is not None and (sight.pid, sight.start_ticks) == (who.pid, who.start_ticks)
    age = age_s(who.pid, who.start_ticks)
    if looked and sight is not None and sight.is_fresh():
        return True
    if not looked and age is not None and age < _START_TAKES_S:
        return True
    # Stopped or stuck: its lock goes with it. Of another pid namespace only the lock can tell.
    return not kill_processes([(who.pid, who.start_ticks)]) and age is not None


def _may_start() -> bool:
    """Whether one may be started by this process: inside of a job it would be part of that job, and end with it."""
    if os.environ.get(LEASE_VARIABLE) or not sys.executable:
        return False
    try:
        places = find_places()
    except OSError:
        return True
    return not any(parse_fence_name(each) for place in places for each in place.directories)


def start_sentinel(settings: Shares, folder: Path, domain: str, *, linger_s: float | None = LINGER_S) -> None:
    """Start one, as a process that nobody has to wait for; does not wait until it watches.

    Raises:
        OSError: if the machine lets no process be made.
        subprocess.TimeoutExpired: if it does not get any further.
    """
    orders = Orders(folder.absolute(), domain, settings.capacity, settings.reserve, linger_s=linger_s)
    told = json.dumps({**orders.to_json(), "path": _path()})
    words = [sys.executable, "-I", "-S", "-c", _BOOTSTRAP, SENTINEL_MARK, told]
    # The shell forks a second time and ends at once: a process as large as this one would need ten milliseconds for it.
    starter = subprocess.Popen(
        [_SHELL, "-c", '"$@" &', "sh", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        | {"MALLOC_ARENA_MAX": "1"},
        start_new_session=True,
        close_fds=True,
        umask=0o077,
    )
    try:
        starter.wait(_SHELL_S)
    except BaseException:
        starter.kill()
        starter.wait()
        raise


def _path() -> list[str]:
    """Return where memguard and what it needs can be imported from, and nothing else: no user's file shadows it."""
    import apsw  # noqa: PLC0415 - whoever has a lease has it already

    return [str(Path(__file__).absolute().parents[2]), str(Path(str(apsw.__file__)).absolute().parents[1])]


def is_sentinel(pid: int) -> bool:
    """Whether a process is a sentinel, or about to become one; ``False`` if that cannot be seen."""
    with contextlib.suppress(OSError):
        return SENTINEL_MARK.encode() in command_line(pid)
    return False
