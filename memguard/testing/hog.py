"""A hungry command for tests of command guards: ``python -m memguard.testing.hog --mib 300 ...``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from memguard.testing.hogs import allocate, end_tree, fork_tree, segfault
from memguard.units import MIB

__all__ = ["main"]

# Nobody's test waits longer, and a forgotten hog ends by itself.
_LONGEST_HOLD_S: Final = 600.0
_CHILD_HOLD_S: Final = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Take memory as told, print ``ready``, hold it, and end as told.

    Args:
        arguments: the command line; ``None`` for the process's own.

    Returns:
        The exit status that was asked for.
    """
    options = _parser().parse_args(arguments)
    if options.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.setsid:
        _leave_session()
    with ExitStack() as owned:
        taken = allocate(int(options.mib * MIB), _rate(options.rate_mib_s))
        if options.shm_mib:
            owned.callback(os.close, _take_shared(owned, int(options.shm_mib * MIB), options.shm_name))
        _fork(owned, options)
        print("ready", flush=True)  # noqa: T201 - the line that tests wait for
        _hold(options)
        del taken
        if options.segfault:
            segfault()
    return int(options.exit_code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m memguard.testing.hog", description=__doc__)
    parser.add_argument("--mib", type=_amount, default=0.0, help="private memory to take and touch")
    parser.add_argument("--rate-mib-s", type=_amount, help="how fast to touch it (default: at once)")
    parser.add_argument("--shm-mib", type=_amount, default=0.0, help="shared memory to take in /dev/shm")
    parser.add_argument(
        "--shm-name", help="keep the shared file's name visible while it runs, not unlinked at once"
    )
    holding = parser.add_mutually_exclusive_group()
    holding.add_argument(
        "--hold-seconds", type=_hold_time, default=0.0, help="how long to hold it, up to 600"
    )
    holding.add_argument(
        "--wait-for-stdin", action="store_true", help="hold it until stdin has a line or ends"
    )
    parser.add_argument("--children", type=int, default=0, help="children that take --mib each too")
    parser.add_argument(
        "--grandchildren", type=int, nargs="?", const=1, default=0, help="children of each child"
    )
    parser.add_argument(
        "--abandon", action="store_true", help="leave the children behind at the end, for a minute at most"
    )
    parser.add_argument("--ignore-sigterm", action="store_true", help="only SIGKILL ends it")
    parser.add_argument(
        "--setsid", action="store_true", help="it and each child leave the session they are in"
    )
    parser.add_argument("--segfault", action="store_true", help="end by a real segmentation fault")
    parser.add_argument("--exit-code", type=int, default=0, help="end with this status")
    return parser


def _amount(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a size in MiB")
    return value


def _hold_time(text: str) -> float:
    value = float(text)
    if not 0 <= value <= _LONGEST_HOLD_S:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {_LONGEST_HOLD_S:.0f} s")
    return value


def _rate(mib_per_s: float | None) -> float | None:
    return mib_per_s * MIB if mib_per_s else None


def _leave_session() -> None:
    # A process that leads its group cannot; its children still do.
    with suppress(PermissionError):
        os.setsid()


def _take_shared(owned: ExitStack, count_bytes: int, name: str | None) -> int:
    if name is None:
        descriptor, path = tempfile.mkstemp(prefix="memguard-hog-", dir="/dev/shm")
        Path(path).unlink()
    else:
        file = Path("/dev/shm") / name
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        owned.callback(file.unlink, missing_ok=True)
    # tmpfs gives real pages for an allocated range, touched or not.
    os.posix_fallocate(descriptor, 0, count_bytes)
    return descriptor


def _fork(owned: ExitStack, options: argparse.Namespace) -> None:
    if not options.children:
        return
    hold_s = max(_CHILD_HOLD_S, options.hold_seconds)
    pids = fork_tree(
        options.children,
        grandchildren=options.grandchildren,
        bytes_each=int(options.mib * MIB),
        hold_s=hold_s,
        new_sessions=options.setsid,
    )
    if not options.abandon:
        owned.callback(end_tree, pids)


def _hold(options: argparse.Namespace) -> None:
    if options.wait_for_stdin:
        sys.stdin.readline()
    time.sleep(options.hold_seconds)


if __name__ == "__main__":
    sys.exit(main())
