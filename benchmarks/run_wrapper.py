"""`memguard run -- COMMAND` against COMMAND itself, in one run.

What wrapping costs once, by how much it slows a busy command, and which share of a processor its guard takes. Wrapped
and bare runs take turns, so that what else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

import _common
from _common import Figure, Series

_MOST_SLOWDOWN = 1.02
_FIXED_COST_S = 0.050

# Allocates, touches and frees about 100 MiB in pieces of many sizes, again and again, and computes in between.
_BUSY = """
total = 0
for turn in range({turns}):
    pieces = [bytearray(1024 * (1 + (turn * 37 + number) % 1000)) for number in range(200)]
    total += sum(len(piece) for piece in pieces) + sum(range(20_000))
"""


def main() -> int:
    """Measure and print."""
    parser = _common.options(__doc__)
    parser.add_argument("--repeat", type=int, default=15, help="runs of each kind (default: 15)")
    parser.add_argument("--turns", type=int, default=200, help="length of the busy command (default: 200)")
    parser.add_argument(
        "--hold", type=float, default=10.0, help="seconds to watch an idle command (default: 10)"
    )
    parsed = parser.parse_args()
    once, cost_s = fixed_cost(parsed)
    figures = [*once, *slowdown(parsed, cost_s), *guard_share(parsed)]
    return _common.finish("memguard run against the bare command", figures, parsed)


def wrapped(*words: str, memory: str = "1GiB") -> list[str]:
    """Return the words that wrap a command, through the same script that users call."""
    script = os.path.join(os.path.dirname(sys.executable), "memguard")
    return [script, "run", "--memory", memory, "--", *words]


def in_turns(repeat: int, *commands: Sequence[str]) -> list[Series]:
    """Time commands, each ``repeat`` times, one after the other."""
    taken: list[list[float]] = [[] for _ in commands]
    for _ in range(repeat):
        for command, times in zip(commands, taken, strict=True):
            times.append(_common.time_command(command))
    return [Series(tuple(times)) for times in taken]


def fixed_cost(parsed: argparse.Namespace) -> tuple[list[Figure], float]:
    """Time a command that does nothing, and the start of Python beside it; returns the cost in seconds as well."""
    bare, guarded, python = in_turns(parsed.repeat, ["true"], wrapped("true"), [sys.executable, "-c", "pass"])
    cost_s = guarded.median - bare.median
    return [
        Figure("`true`", milliseconds(bare), data=raw(bare)),
        Figure("`memguard run -- true`", milliseconds(guarded), data=raw(guarded)),
        Figure("`python -c pass`", milliseconds(python), data=raw(python)),
        Figure(
            "cost of wrapping / start of Python",
            f"{cost_s / python.median:.1f} x ({1000 * cost_s:.0f} ms)",
            data={"ratio": cost_s / python.median, "cost_s": cost_s},
        ),
    ], cost_s


def slowdown(parsed: argparse.Namespace, cost_s: float) -> list[Figure]:
    """Time a command that allocates and computes all the time; what wrapping costs once is told with and without."""
    busy = [sys.executable, "-c", _BUSY.format(turns=parsed.turns)]
    bare, guarded = in_turns(max(3, parsed.repeat // 3), busy, wrapped(*busy))
    return [
        Figure("busy command", seconds(bare), data=raw(bare)),
        Figure("busy command, wrapped", seconds(guarded), data=raw(guarded)),
        judged("wrapped / bare, medians", bare.median, guarded.median),
        judged("wrapped / bare, least", bare.least, guarded.least),
        judged(
            "wrapped less what a wrapped `true` costs / bare, medians", bare.median, guarded.median - cost_s
        ),
    ]


def judged(what: str, bare_s: float, guarded_s: float) -> Figure:
    """Return a ratio with its aim."""
    allowed_s = bare_s * _MOST_SLOWDOWN + _FIXED_COST_S
    return Figure(
        what,
        f"{guarded_s / bare_s:.3f} x ({1000 * (guarded_s - bare_s):+.0f} ms)",
        f"<= {_MOST_SLOWDOWN} x + {1000 * _FIXED_COST_S:.0f} ms, here {allowed_s / bare_s:.3f} x",
        guarded_s <= allowed_s,
        {"ratio": guarded_s / bare_s},
    )


def guard_share(parsed: argparse.Namespace) -> list[Figure]:
    """Measure processor time of the guard while a command holds memory far from its budget, and near to it."""
    return [
        share("far from its budget (looks every 250 ms)", "1GiB", parsed.hold),
        share("at 85 % of its budget (looks every 10 ms)", "128MiB", parsed.hold),
    ]


def share(where: str, memory: str, hold_s: float) -> Figure:
    """Return the share of a processor that guarding a command that sleeps takes, its start and end left out."""
    hog = [sys.executable, "-m", "memguard.testing.hog", "--mib", "100", "--hold-seconds"]
    short, long = (
        processor_seconds(wrapped(*hog, f"{seconds}", memory=memory)) for seconds in (0.5, hold_s + 0.5)
    )
    taken = max(0.0, long - short) / hold_s
    return Figure(
        f"processor taken by the guard, command {where}",
        f"{taken:.1%}",
        data={"share": taken},
    )


def processor_seconds(words: Sequence[str]) -> float:
    """Run a command; returns the processor time of it and of all that it waited for."""
    nothing = subprocess.DEVNULL
    process = subprocess.Popen(words, env=_common.python_environment(), stdout=nothing, stderr=nothing)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, words)
    return used.ru_utime + used.ru_stime


def seconds(taken: Series) -> str:
    """Return median and least in seconds."""
    return f"{taken.median:.2f} s median, {taken.least:.2f} s least of {len(taken.values)}"


def milliseconds(taken: Series) -> str:
    """Return median and least in milliseconds."""
    return f"{1000 * taken.median:.1f} ms median, {1000 * taken.least:.1f} ms least of {len(taken.values)}"


def raw(taken: Series) -> dict[str, list[float]]:
    """Return the values for programs."""
    return {"seconds": [round(value, 5) for value in taken.values]}


if __name__ == "__main__":
    sys.exit(main())
