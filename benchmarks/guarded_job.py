"""A guarded AutoFeat job against the same job without a guard, in one run.

Wall time in fresh processes, start-up of a job, peak and growth of the calling process. Plain and guarded runs take
turns, so that what else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import _common
from _common import Figure, Series

from memguard.units import MIB, format_bytes

_MOST_SLOWDOWN = 1.02
_FIXED_COST_S = 0.050
_START_AIM_S = 0.020
_GROWTH_AIM_BYTES = 5 * MIB

_PLAIN = "import _autofeat_job; print(_autofeat_job.fit())"
_GUARDED = """
import _autofeat_job
from memguard import MemoryManager
with MemoryManager("70%") as manager:
    print(manager.run(_autofeat_job.fit, memory="2GiB", preload=("autofeat",)).value)
"""


def main() -> int:
    """Measure and print."""
    parser = _common.options(__doc__)
    parser.add_argument("--repeat", type=int, default=7, help="runs of each kind for wall times (default: 7)")
    parser.add_argument("--starts", type=int, default=40, help="starts of a warm job (default: 40)")
    parser.add_argument(
        "--jobs", type=int, default=50, help="jobs for the growth of the caller (default: 50)"
    )
    parser.add_argument("--plain-fits", type=int, default=8, help="fits in one plain process (default: 8)")
    parser.add_argument(
        "--only", choices=_PARTS, action="append", help="measure this part alone; may be repeated"
    )
    parsed = parser.parse_args()
    figures = [figure for name in parsed.only or _PARTS for figure in _PARTS[name](parsed)]
    return _common.finish("A guarded AutoFeat job against a plain one", figures, parsed)


def measure(call: str) -> Any:
    """Run one of the measurements in a fresh interpreter."""
    return _common.answer_of_python(f"import json, _guarded_parts; print(json.dumps(_guarded_parts.{call}))")


def cold_fits(parsed: argparse.Namespace) -> list[Figure]:
    """Time a program that imports autofeat and fits, plain and guarded, each time in a fresh process."""
    taken: dict[str, list[float]] = {_PLAIN: [], _GUARDED: []}
    for _ in range(parsed.repeat):
        for program, times in taken.items():
            began_s = time.perf_counter()
            _common.answer_of_python(program)
            times.append(time.perf_counter() - began_s)
    return compared("fit in a fresh process, imports included", *map(series, taken.values()))


def warm_fits(parsed: argparse.Namespace) -> list[Figure]:
    """Time the fit alone, where autofeat is imported already."""
    taken = measure(f"warm_fits({parsed.repeat})")
    return compared("fit alone, autofeat imported", series(taken["plain"]), series(taken["guarded"]))


def compared(what: str, plain: Series, guarded: Series) -> list[Figure]:
    """Return the figures of a comparison: by the medians, which the aim is about, and by the least."""
    return [
        Figure(f"plain {what}", seconds(plain), data=raw(plain)),
        Figure(f"guarded {what}", seconds(guarded), data=raw(guarded)),
        judged("guarded / plain, medians", plain.median, guarded.median),
        judged("guarded / plain, least", plain.least, guarded.least),
    ]


def judged(what: str, plain_s: float, guarded_s: float) -> Figure:
    """Return a ratio with its aim."""
    allowed_s = plain_s * _MOST_SLOWDOWN + _FIXED_COST_S
    return Figure(
        what,
        f"{guarded_s / plain_s:.3f} x ({1000 * (guarded_s - plain_s):+.0f} ms)",
        f"<= {_MOST_SLOWDOWN} x + {1000 * _FIXED_COST_S:.0f} ms, here {allowed_s / plain_s:.3f} x",
        guarded_s <= allowed_s,
        {"ratio": guarded_s / plain_s},
    )


def start_up(parsed: argparse.Namespace) -> list[Figure]:
    """Measure how soon a job's function begins."""
    taken = {name: series(values) for name, values in measure(f"start_up({parsed.starts})").items()}
    jobs, whole, forks, spawns = (taken[name] for name in ("jobs", "whole", "forks", "spawns"))
    ratio = spawns.median / jobs.median
    return [
        Figure(
            "start of a job, warm template with autofeat",
            milliseconds(jobs),
            f"median <= {1000 * _START_AIM_S:.0f} ms",
            jobs.median <= _START_AIM_S,
            raw(jobs),
        ),
        Figure(
            "  the same to the return, cleanup verified",
            milliseconds(whole),
            data=raw(whole),
        ),
        Figure(
            "start by forkserver, autofeat preloaded, no guard",
            milliseconds(forks),
            data=raw(forks),
        ),
        Figure("start by spawn, which imports autofeat", milliseconds(spawns), data=raw(spawns)),
        Figure("spawn / job, medians", f"{ratio:.0f} x", data={"ratio": ratio}),
    ]


def peaks(_: argparse.Namespace) -> list[Figure]:
    """Measure by how much a fit raises the highest resident set of the process that asks for it."""
    guarded, plain = measure("peak_guarded()"), measure("peak_plain()")
    rise = guarded["rise"]
    return [
        Figure(
            "rise of the caller's peak by a guarded fit",
            f"{format_bytes(rise)} (the job took {format_bytes(guarded['job'])})",
            "unchanged: < 1 MiB",
            rise < MIB,
            guarded,
        ),
        Figure(
            "rise of a plain process's peak",
            f"{format_bytes(plain['import'])} by the import, {format_bytes(plain['rise'])} by the fit",
            data=plain,
        ),
    ]


def growth(parsed: argparse.Namespace) -> list[Figure]:
    """Measure what stays in the caller after many fits."""
    guarded, plain = measure(f"growth_guarded({parsed.jobs})"), measure(f"growth_plain({parsed.plain_fits})")
    total = guarded[-1] - guarded[0]
    each = statistics.median(b - a for a, b in itertools.pairwise(plain))
    return [
        Figure(
            f"growth of the caller over {parsed.jobs} guarded fits",
            format_bytes(max(0, total)),
            f"< {format_bytes(_GROWTH_AIM_BYTES)}",
            total < _GROWTH_AIM_BYTES,
            {"bytes": guarded},
        ),
        Figure(
            f"growth of a plain process over {parsed.plain_fits} fits",
            f"{format_bytes(plain[-1] - plain[0])}, {format_bytes(int(each))} a fit; {parsed.jobs} fits would be "
            f"{format_bytes(int(each * parsed.jobs))}",
            data={"bytes": plain},
        ),
    ]


def series(values: list[float]) -> Series:
    """Return measured values."""
    return Series(tuple(values))


def seconds(taken: Series) -> str:
    """Return median and least in seconds."""
    return f"{taken.median:.2f} s median, {taken.least:.2f} s least of {len(taken.values)}"


def milliseconds(taken: Series) -> str:
    """Return median and least in milliseconds."""
    return f"{1000 * taken.median:.1f} ms median, {1000 * taken.least:.1f} ms least of {len(taken.values)}"


def raw(taken: Series) -> dict[str, Any]:
    """Return the values for programs."""
    return {"seconds": [round(value, 5) for value in taken.values]}


_PARTS: Mapping[str, Callable[[argparse.Namespace], list[Figure]]] = {
    "cold": cold_fits,
    "warm": warm_fits,
    "start": start_up,
    "peak": peaks,
    "growth": growth,
}

if __name__ == "__main__":
    sys.exit(main())
