"""Waiting for the death of processes: dead is who was seen dead, also where nothing can be opened any more."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from memguard.host import own_umask, start_ticks, wait_all_gone
from tests.support.guarded import run_python


@contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_who_lives_is_not_gone_where_nothing_can_be_opened() -> None:
    """Without a descriptor left a live process counts as alive, and is waited for to the deadline."""
    with sleeper() as process:
        who = ((process.pid, start_ticks(process.pid)),)
        with no_descriptors():
            with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
                os.pidfd_open(process.pid)
            began_s = time.monotonic()
            assert wait_all_gone(who, 0.1) is False
            assert time.monotonic() - began_s >= 0.1
            threading.Timer(0.02, lambda: (process.kill(), process.wait())).start()
            assert wait_all_gone(who, 10.0) is True


def test_who_died_is_gone() -> None:
    """A death while we wait, a zombie, a pid without a process, and a pid that another one has now."""
    with sleeper() as process:
        ticks = start_ticks(process.pid)
        assert wait_all_gone(((process.pid, ticks),), 0.01) is False
        assert wait_all_gone(((process.pid, ticks - 1),), 0.0) is True
        process.kill()
        assert wait_all_gone(((process.pid, ticks),), 10.0) is True
        process.wait()
        assert wait_all_gone(((process.pid, ticks),), 0.0) is True


def test_the_umask_is_read_without_being_changed() -> None:
    """What the process has set is told; nothing is changed on the way."""
    done = run_python(
        "import os\nfrom memguard.host import own_umask\n"
        "for mask in (0o022, 0o077, 0):\n    os.umask(mask)\n    print(own_umask() == mask, os.umask(mask) == mask)\n"
    )
    assert done.stdout.split() == ["True"] * 6
    assert own_umask() is not None
