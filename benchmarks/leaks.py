"""The leak detector over the zoo of programs, beside the tools that people use for it.

Precision and recall at 40 and 200 iterations, with kinds and names where a tool tells them; each program in a fresh
process. Then what a probe costs in a process with 100,000 objects, and what the cheap channels cost a real job.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import _common
from _common import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stress" / "leak_zoo"))
import _zoo

_PEERS = ("psleak", "objgraph", "ols", "loky")
_NAMES = {
    "memguard": "memguard",
    "memguard_unplanned": "memguard, count unknown",
    "psleak": "psleak",
    "objgraph": "objgraph growth",
    "ols": "regression of RSS",
    "loky": "loky's rule",
}

# Processor time, not the wall's: what a probe costs does not depend on who else is at work.
_PROBE = """
import json, time, statistics
from memguard.leaks.detector import LeakDetector
kept = [[number] for number in range(100_000)]
detector = LeakDetector(200)
probes, ends = [], []
for number in range(200):
    began_s = time.process_time()
    detector.iteration()
    took_s = time.process_time() - began_s
    (ends if number + 1 in detector.block_ends else probes).append(took_s)
began_s = time.process_time()
detector.finish()
finish_s = time.process_time() - began_s
census_s, *others = ends
print(json.dumps({
    "probe_ms": 1e3 * statistics.median(probes),
    "end_ms": 1e3 * statistics.median(others),
    "mean_ms": 1e3 * (sum(probes) + sum(others)) / (len(probes) + len(others)),
    "census_s": census_s,
    "finish_s": finish_s,
}))
"""

_SLOWDOWN = """
import json, time, statistics
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor
from memguard.leaks.detector import LeakDetector
x, y = load_diabetes(return_X_y=True)
def work():
    RandomForestRegressor(n_estimators=8, max_depth=6, n_jobs=1, random_state=0).fit(x, y)
detector = LeakDetector(thorough=False)
plain, watched, probes = [], [], []
for number in range(300):
    began_s = time.process_time()
    work()
    worked_s = time.process_time()
    if number % 2:
        detector.iteration()
        probes.append(time.process_time() - worked_s)
    (watched if number % 2 else plain).append(time.process_time() - began_s)
half = statistics.median
print(json.dumps({
    "plain_ms": 1e3 * half(plain), "watched_ms": 1e3 * half(watched),
    "least_plain_ms": 1e3 * min(plain), "least_watched_ms": 1e3 * min(watched),
    # The detector paces itself by all the processor time that goes by, that of fits without a probe included.
    "share": sum(probes) / (sum(watched) + sum(plain) - sum(probes)),
    "closer": detector.is_thorough,
}))
"""


def main() -> int:
    """Measure and print."""
    parser = _common.options(__doc__)
    parser.add_argument("--iterations", type=int, nargs="+", default=[40, 200])
    parser.add_argument(
        "--tools", nargs="+", default=["memguard", "memguard_unplanned", *_PEERS], choices=_NAMES
    )
    parser.add_argument("--programs", nargs="+", help="only these (default: all)")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (default: 2)")
    parser.add_argument(
        "--only", choices=_PARTS, action="append", help="measure this part alone; may be repeated"
    )
    parsed = parser.parse_args()
    figures = [figure for name in parsed.only or _PARTS for figure in _PARTS[name](parsed)]
    return _common.finish("A leak detector against others", figures, parsed)


Case = tuple[_zoo.Program, dict[str, Any]]


def zoo(parsed: argparse.Namespace) -> list[Figure]:
    """Run all programs under all tools."""
    chosen = [each for each in _zoo.programs() if not parsed.programs or each.name in parsed.programs]
    figures = []
    for iterations in parsed.iterations:
        for tool in parsed.tools:
            if tool in ("psleak", "objgraph") and find_spec(tool) is None:
                continue
            figures += _figures(tool, iterations, _run_all(chosen, iterations, tool, parsed.jobs))
    return figures


def _run_all(chosen: Sequence[_zoo.Program], iterations: int, tool: str, jobs: int) -> list[Case]:
    """Run programs beside each other; those that leave shared memory alone, since nobody can tell who left it."""
    alone = [each for each in chosen if "shared_memory" in each.kinds]
    others = [each for each in chosen if each not in alone]
    with ThreadPoolExecutor(jobs) as pool:
        found = list(pool.map(lambda each: (each, _zoo.run(each.name, iterations, tool)), others))
    return found + [(each, _zoo.run(each.name, iterations, tool)) for each in alone]


def _figures(tool: str, iterations: int, cases: Sequence[Case]) -> list[Figure]:
    label = f"{_NAMES[tool]}, {iterations} iterations"
    figures = [_accuracy(label, cases, tool, iterations)]
    if tool.startswith("memguard"):
        figures += [
            _accuracy(f"{label}: {name}", [case for case in cases if case[0].is_first_half is first], "", 0)
            for name, first in (("programs it was tuned on", True), ("programs written after", False))
        ]
        figures += [_kinds(label, cases), _naming(label, cases)]
    return figures


def _accuracy(label: str, cases: Sequence[Case], tool: str, iterations: int) -> Figure:
    hits = [p.name for p, found in cases if p.leaks and found["leaking"]]
    missed = [p.name for p, found in cases if p.leaks and not found["leaking"]]
    false = [p.name for p, found in cases if not p.leaks and found["leaking"]]
    failed = {p.name: found["error"] for p, found in cases if "error" in found}
    recall = len(hits) / max(1, len(hits) + len(missed))
    precision = len(hits) / max(1, len(hits) + len(false))
    aim, met = _aim(tool, iterations, recall, precision, false)
    low, high = _wilson(len(hits), len(hits) + len(missed))
    innocents = sum(not p.leaks for p, _ in cases)
    value = (
        f"recall {recall:.2f} ({low:.2f} to {high:.2f}), precision {precision:.2f}, "
        f"{len(hits)} of {len(hits) + len(missed)} leaks, {len(false)} of {innocents} innocents"
    )
    data = {"recall": recall, "precision": precision, "missed": missed, "false": false, "failed": failed}
    return Figure(label, value, aim, met, data)


def _aim(
    tool: str, iterations: int, recall: float, precision: float, false: Sequence[str]
) -> tuple[str, bool | None]:
    if tool == "memguard" and iterations == 200:
        return "recall and precision >= 0.97", recall >= 0.97 and precision >= 0.97
    if tool == "memguard" and iterations == 40:
        return "recall >= 0.9, no innocent", recall >= 0.9 and not false
    return "", None


def _wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the interval (95 %) of a share; E. B. Wilson, JASA 22 (1927)."""
    if not count:
        return 0.0, 1.0
    share, z = hits / count, 1.96
    center = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (center - spread) / (1 + z * z / count), (center + spread) / (1 + z * z / count)


def _kinds(label: str, cases: Sequence[Case]) -> Figure:
    told = [(p, found) for p, found in cases if p.leaks and found["leaking"]]
    wrong = [f"{p.name}: {found['kind']}" for p, found in told if found["kind"] not in p.kinds]
    return _share(f"{label}: kind", len(told) - len(wrong), len(told), wrong, label)


def _naming(label: str, cases: Sequence[Case]) -> Figure:
    told = [(p, found) for p, found in cases if p.leaks and found["leaking"] and p.names]
    wrong = [
        p.name for p, found in told if not any(part in name for part in p.names for name in found["names"])
    ]
    return _share(
        f"{label}: holder or type in the first three", len(told) - len(wrong), len(told), wrong, label
    )


def _share(what: str, right: int, count: int, wrong: Sequence[str], label: str) -> Figure:
    share = right / max(1, count)
    aimed = "200" in label
    return Figure(
        what,
        f"{share:.2f} ({right} of {count})",
        ">= 0.9" if aimed else "",
        share >= 0.9 if aimed else None,
        {"share": share, "wrong": list(wrong)},
    )


def cost(_: argparse.Namespace) -> list[Figure]:
    """Time probes in a process with 100,000 objects."""
    taken = _common.answer_of_python(_PROBE)
    return [
        Figure(
            "probe at 100,000 objects, processor time per iteration",
            f"{taken['probe_ms']:.3f} ms; with the ends of blocks, {taken['end_ms']:.0f} ms each, "
            f"{taken['mean_ms']:.2f} ms in the mean of 200; first census {taken['census_s']:.1f} s, "
            f"second with the report {taken['finish_s']:.1f} s",
            "<= 2 ms",
            taken["mean_ms"] <= 2.0,
            taken,
        )
    ]


def slowdown(_: argparse.Namespace) -> list[Figure]:
    """Time fits of a small forest with the cheap channels on and off, in turns."""
    taken = _common.answer_of_python(_SLOWDOWN)
    return [
        Figure(
            "fits of a small forest with the cheap channels on: spent in probes",
            f"{100 * taken['share']:.2f} % (medians of {taken['watched_ms']:.1f} and {taken['plain_ms']:.1f} ms "
            f"of processor time, with and without)",
            "<= 1 %",
            taken["share"] <= 0.01,
            taken,
        )
    ]


_PARTS: dict[str, Callable[[argparse.Namespace], list[Figure]]] = {
    "zoo": zoo,
    "cost": cost,
    "slowdown": slowdown,
}


if __name__ == "__main__":
    raise SystemExit(main())
