"""The job's process, forked ahead of the job: behind a fence already, it waits to be told what to run.

Comes in: which kind of fence. Goes out: a process that needs only a message to begin. Two things that make a start slow
are over by then: the fork of a template with hundreds of megabytes, and the move into a cgroup, for which the kernel
waits until all processors have passed a quiet state. `memguard.worker.keeper` owns it; `memguard.worker.jobmain` is
what runs in it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Final

from memguard.worker.fencing import build_enclosure
from memguard.worker.jobmain import run_job_and_exit
from memguard.worker.protocol import channel_pair
from memguard.worker.spec import JobSpec

__all__ = ["Standby", "fitting_standby"]

# What a fence is called until a job has it.
_NAME: Final = "standby"
# A stop that comes before the job has its handlers waits until it has.
_HELD_BACK: Final = (signal.SIGINT, signal.SIGTERM)


class Standby:
    """A process that waits to become a job. Its maker owns it: `discard` it, or `start` it and guard what it becomes.

    Attributes:
        enclosure: what it is behind.
        pid: its process id; it is a child of its maker.
        channel: its maker's end of the connection to it.
    """

    def __init__(self, fence: str, let_go: Callable[[], None]) -> None:
        """Fork it.

        Args:
            fence: as in `build_enclosure`.
            let_go: called in the new process: closes what its maker keeps to itself.

        Raises:
            OSError: if the machine lets no process be made; nothing is left behind then.
        """
        self._fence = fence
        self.enclosure = build_enclosure(_NAME, fence, None)
        self.channel, theirs = channel_pair()
        maker_pid = os.getpid()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
        try:
            self.pid = os.fork()
            if self.pid == 0:
                self.channel.close()
                let_go()
                run_job_and_exit(theirs, self.enclosure, maker_pid)
        except OSError:
            self.channel.close()
            self._remove_fence()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            theirs.close()

    def serves(self, fence: str) -> bool:
        """Whether it lives and is behind what a job asks for."""
        if fence != self._fence:
            return False
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def start(self, spec: JobSpec, stdio: tuple[int, int], arguments: int) -> None:
        """Let it become the job; one that was killed meanwhile is found by whoever guards it."""
        self.channel.send({"kind": "start", "spec": spec.to_message()}, [*stdio, arguments])

    def discard(self) -> None:
        """End it without a job, and remove its fence."""
        self.channel.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._remove_fence()

    def _remove_fence(self) -> None:
        if self.enclosure.fence is not None:
            self.enclosure.fence.remove()


def fitting_standby(
    standby: Standby | None, spec: JobSpec, let_go: Callable[[], None]
) -> tuple[Standby, str]:
    """Return a process behind the fence that the job is to have, and what is amiss with that fence."""
    plan = spec.plan
    if standby is not None and not standby.serves(plan.fence):
        standby.discard()
        standby = None
    standby = standby or Standby(plan.fence, let_go)
    try:
        standby.enclosure.assign(spec.job_id, plan.limit_bytes)
    except OSError as error:
        standby.discard()
        return Standby("rlimit", let_go), str(error)
    return standby, standby.enclosure.degraded
