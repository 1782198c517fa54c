"""What the process that watches the machine costs while nothing happens: memory, and time of one processor.

python benchmarks/sentinel.py [--seconds N] [--json]
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import _common
import _reaction_job
import _storm_pen
import reaction

from memguard.guard.single import sentinel_of
from memguard.host import Fence, is_alive, kill_processes
from memguard.host.readings import ProcessIdentity
from memguard.units import MIB

_LEASES = 10


def main() -> int:
    """Measure on this machine, and in a small cgroup, where it looks more often."""
    parser = _common.options(__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of calm that are measured (default: 10)")
    parsed = parser.parse_args()
    _storm_pen.end_on_sigterm()
    figures = []
    with watched(None) as who:
        figures.append(memory_figure(who))
        figures.append(time_figure(f"this machine, {_LEASES} leases", who, parsed.seconds))
    with reaction.pen() as fence, watched(fence) as who:
        figures.append(time_figure(f"a cgroup of 1 GiB, {_LEASES} leases", who, parsed.seconds))
    return _common.finish("sentinel", figures, parsed)


@contextlib.contextmanager
def watched(fence: Fence | None) -> Iterator[ProcessIdentity]:
    """Some leases whose jobs do nothing, and the sentinel that they have."""
    with reaction.folder() as folder, holders(fence, folder):
        domain = fence.path if fence is not None else ""
        who = sentinel_of(folder, domain)
        if who is None:
            raise SystemExit(
                "no sentinel is there; it would be another's where this process has a limit of its own"
            )
        time.sleep(1)  # what it imports and reads at first is not its calm
        try:
            yield who
        finally:
            kill_processes([(who.pid, who.start_ticks)])
            while is_alive(who):
                time.sleep(0.01)


@contextlib.contextmanager
def holders(fence: Fence | None, folder: Path) -> Iterator[None]:
    """Processes that hold a lease each."""
    enter: Callable[[], None] | None = fence.enter if fence is not None else None
    words = [sys.executable, _reaction_job.__file__, str(folder)]
    started = [
        subprocess.Popen(
            [*words, f"job {number}", "0.1", str(MIB), str(MIB)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_common.python_environment(),
            preexec_fn=enter,  # noqa: PLW1509 - one write, and there is no other thread here
        )
        for number in range(_LEASES)
    ]
    try:
        for each in started:
            assert each.stdout is not None
            each.stdout.readline()
        yield
    finally:
        for each in started:
            each.kill()  # its allocator ends when its stdin does
            each.wait()


def memory_figure(who: ProcessIdentity) -> _common.Figure:
    """Return its private memory with its part of what it shares."""
    lines = Path(f"/proc/{who.pid}/smaps_rollup").read_text().splitlines()[1:]
    fields = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    private, proportional = fields["Private_Clean"] + fields["Private_Dirty"], fields["Pss"]
    words = f"{private / MIB:.1f} MiB private, {proportional / MIB:.1f} MiB with its part of shared pages"
    return _common.Figure(
        "memory", words, "< 15 MiB", proportional < 15 * MIB, {"pss_mib": proportional / MIB}
    )


def time_figure(what: str, who: ProcessIdentity, seconds: float) -> _common.Figure:
    """Return the part of a processor that it takes."""
    before_s, began_s = _used_s(who.pid), time.monotonic()
    time.sleep(seconds)
    share = (_used_s(who.pid) - before_s) / (time.monotonic() - began_s)
    return _common.Figure(what, f"{share:.2%} of a processor", "<= 1%", share <= 0.01, {"share": share})


def _used_s(pid: int) -> float:
    return sum(
        int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0]) / 1e9
        for task in os.listdir(f"/proc/{pid}/task")
    )


if __name__ == "__main__":
    sys.exit(main())
