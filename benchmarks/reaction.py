"""How fast a machine that fills up is kept from the kernel's out-of-memory killer.

In a memory cgroup of 1 GiB, processes take unnamed memory far beyond what they reserved, at 0.1 GiB/s to full speed,
one and four at once. Reaction is the time from the critical line (95 %) to the end of growth, as an observer outside
sees it who reads the cgroup's use every half millisecond; overshoot is by how much the line was passed.

    python benchmarks/reaction.py [--trials N] [--json]
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import _common
import _reaction_job
import _storm_pen

from memguard.guard.pressure import Lines
from memguard.host import Fence
from memguard.testing.pen import NoPenError, open_pen
from memguard.units import GIB, MIB

_LIMIT_BYTES = GIB
_RESERVED_BYTES = 32 * MIB
_RATES = (0.1, 1.0, 0.0)
_COUNTS = (1, 4)
_LOOK_S = 0.0005
_PATIENCE_S = 30.0
# Growth has ended when as much as this did not come within the quiet time.
_GROWTH_BYTES = MIB // 2
_QUIET_S = 0.3


@dataclass(frozen=True, slots=True)
class Trial:
    """How one went.

    Attributes:
        reaction_s: from the line to the end of growth, 0 where the line was never reached.
        overshoot_bytes: beyond the line.
        kills: of the kernel's.
    """

    reaction_s: float
    overshoot_bytes: int
    kills: int


@contextlib.contextmanager
def pen() -> Iterator[Fence]:
    """A cgroup with a limit, under a name that is no fence's, emptied and removed on every path."""
    try:
        opened = open_pen("reaction", _LIMIT_BYTES)
    except NoPenError as error:
        raise SystemExit(str(error)) from error
    with opened:
        yield opened


@contextlib.contextmanager
def jobs(fence: Fence, folder: Path, rate: float, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Allocators that are ready, and have taken nothing yet."""
    words = [sys.executable, _reaction_job.__file__, str(folder)]
    figures = [str(rate), str(2 * _LIMIT_BYTES), str(_RESERVED_BYTES)]
    started = [
        subprocess.Popen(
            [*words, f"job {number}", *figures],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_common.python_environment(),
            preexec_fn=fence.enter,  # noqa: PLW1509 - one write, and there is no other thread here
        )
        for number in range(count)
    ]
    try:
        for each in started:
            assert each.stdout is not None
            if each.stdout.readline() != "ready\n":
                raise SystemExit("a job could not be started")
        yield started
    finally:
        fence.kill_all()
        for each in started:
            each.wait()


def run_trial(rate: float, count: int) -> Trial:
    """Let `count` allocators fill the machine; returns what an observer saw of the first time that it was full."""
    with folder() as place, pen() as fence, jobs(fence, place, rate, count) as started:
        for each in started:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        reaction_s, most = observe(fence)
        line = int(Lines().critical * _LIMIT_BYTES)
        return Trial(reaction_s, max(0, most - line), fence.read().oom_kills)


def observe(fence: Fence) -> tuple[float, int]:
    """Watch until one was killed or all is quiet; returns seconds from the line to the end of growth, and the most."""
    line = int(Lines().critical * _LIMIT_BYTES)
    began_s = last_s = time.monotonic()
    crossed_s, grew_s, most = 0.0, 0.0, 0
    while (now_s := time.monotonic()) - began_s < _PATIENCE_S:
        used = fence.read().used_bytes
        if used > line and not crossed_s:
            crossed_s = now_s
        if used > most + _GROWTH_BYTES:
            most, grew_s = used, now_s
        if used < most - 64 * MIB or (crossed_s and now_s - max(grew_s, last_s) > _QUIET_S):
            break
        time.sleep(_LOOK_S)
    return (max(0.0, grew_s - crossed_s) if crossed_s else 0.0), most


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder for a ledger, removed at the end."""
    place = Path(tempfile.mkdtemp(prefix="memguard-reaction-"))
    try:
        yield place
    finally:
        shutil.rmtree(place)


def _told(rate: float) -> str:
    return f"{rate:g} GiB/s" if rate else "full speed"


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main() -> int:
    """Run all, print the table."""
    parser = _common.options(__doc__)
    parser.add_argument("--trials", type=int, default=10, help="of each kind (default: 10)")
    parsed = parser.parse_args()
    _storm_pen.end_on_sigterm()
    figures, all_of_them = list[_common.Figure](), list[Trial]()
    for rate in _RATES:
        for count in _COUNTS:
            trials = [run_trial(rate, count) for _ in range(parsed.trials)]
            all_of_them += trials
            figures.append(_figure(f"{count} at {_told(rate)}", trials))
    figures.append(_figure("all", all_of_them))
    kills = sum(each.kills for each in all_of_them)
    figures.append(_common.Figure("kernel kills", str(kills), "0", kills == 0))
    return _common.finish("reaction", figures, parsed)


def _figure(what: str, trials: list[Trial]) -> _common.Figure:
    reactions = [each.reaction_s * 1000 for each in trials]
    overshoot = max(each.overshoot_bytes for each in trials) / MIB
    p50, p99, most = statistics.median(reactions), _quantile(reactions, 0.99), max(reactions)
    words = f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, max {most:.0f} ms; overshoot at most {overshoot:.0f} MiB"
    data = {"p50_ms": p50, "p99_ms": p99, "max_ms": most, "overshoot_mib": overshoot, "trials": len(trials)}
    return _common.Figure(what, words, "p99 <= 50 ms", p99 <= 50, data)


if __name__ == "__main__":
    sys.exit(main())
