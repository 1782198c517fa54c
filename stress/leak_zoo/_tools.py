"""The ways of telling a leak that are compared: each takes a program's iteration and a count, and returns a finding.

`memguard` is the detector of this project. The others decide as their own texts say: psleak by its own code; objgraph
by types that become more between two looks; `ols` by a regression of resident memory over iterations; `loky` by 300 MB
above what the first task left.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

Work = Callable[[int], object]

_LOKY_BYTES = 300_000_000
_LOKY_PAUSE_S = 1.0
# One in a hundred that a flat line looks like this: t of a normal distribution, one-sided.
_OLS_T = 2.326


def memguard(work: Work, iterations: int) -> dict[str, Any]:
    """Ask this project's detector."""
    from memguard.leaks.detector import LeakDetector  # noqa: PLC0415 - the others shall not carry it

    with LeakDetector(iterations) as detector:
        for number in detector.iterations(iterations):
            work(number)
    report = detector.report().to_json()
    report["leaking"] = report["verdict"] == "leaking"
    report["names"] = [f"{each['type']} | {each['holder']}" for each in report["culprits"][:3]]
    return report


def memguard_unplanned(work: Work, iterations: int) -> dict[str, Any]:
    """Ask it without telling how many iterations there will be."""
    from memguard.leaks.detector import LeakDetector  # noqa: PLC0415

    with LeakDetector() as detector:
        for number in detector.iterations(iterations):
            work(number)
    report = detector.report().to_json()
    report["leaking"] = report["verdict"] == "leaking"
    report["names"] = [f"{each['type']} | {each['holder']}" for each in report["culprits"][:3]]
    return report


def objgraph(work: Work, iterations: int) -> dict[str, Any]:
    """Say leak if a type became more in the second and in the last third of the time; its names are the top types."""
    import objgraph as graph  # noqa: PLC0415

    peaks: dict[str, int] = {}
    grown: list[dict[str, int]] = []
    for number in range(iterations):
        work(number)
        if (number + 1) % max(1, iterations // 3) == 0:
            grown.append({kind: more for kind, _, more in graph.growth(limit=1000, peak_stats=peaks)})
    least = iterations / 3 / 10
    names = [kind for kind, more in grown[-1].items() if more >= least and grown[-2].get(kind, 0) >= least]
    return {"leaking": bool(names), "names": names[:3]}


def ols(work: Work, iterations: int) -> dict[str, Any]:
    """Say leak if resident memory rises with iterations, p < 0.01, the first quarter left out."""
    from memguard.host import resident_bytes_now  # noqa: PLC0415

    values = []
    for number in range(iterations):
        work(number)
        values.append(float(resident_bytes_now()))
    values = values[max(10, iterations // 4) :]
    return {"leaking": _t_of_slope(values) > _OLS_T, "names": []}


def _t_of_slope(values: list[float]) -> float:
    places = [float(place) for place in range(len(values))]
    if min(values) == max(values):
        return 0.0
    slope, start = statistics.linear_regression(places, values)
    rest = math.fsum((v - start - slope * p) ** 2 for p, v in zip(places, values, strict=True))
    spread = math.fsum((p - statistics.fmean(places)) ** 2 for p in places)
    error = math.sqrt(rest / (len(values) - 2) / spread)
    return slope / error if error else math.inf


def loky(work: Work, iterations: int) -> dict[str, Any]:
    """Say leak if memory is 300 MB above that after the first task, and still so after a collection."""
    from memguard.host import resident_bytes_now  # noqa: PLC0415

    work(0)
    first, looked_s = resident_bytes_now(), time.monotonic()
    for number in range(1, iterations):
        work(number)
        if time.monotonic() - looked_s < _LOKY_PAUSE_S and number < iterations - 1:
            continue
        looked_s = time.monotonic()
        if resident_bytes_now() - first >= _LOKY_BYTES:
            gc.collect()
            if resident_bytes_now() - first >= _LOKY_BYTES:
                return {"leaking": True, "names": []}
    return {"leaking": False, "names": []}


def psleak(work: Work, iterations: int) -> dict[str, Any]:
    """Ask psleak, with rounds of a fifth of the iterations, five of them at most: up to twice as many calls in all."""
    import psleak as peer  # noqa: PLC0415

    calls = iter(range(10**9))

    class Case(peer.MemoryLeakTestCase):  # type: ignore[misc]
        """One program as psleak sees it."""

        warmup_times, times, retries = 10, max(1, iterations // 5), 5

        def runTest(self) -> None:  # noqa: N802 - unittest's name
            """Nothing; `execute` is called from outside."""

    try:
        Case().execute(lambda: work(next(calls)) and None)
    except (peer.Error, MemoryError) as error:
        return {"leaking": True, "names": [], "why": f"{type(error).__name__}: {error}"[:200]}
    return {"leaking": False, "names": []}


TOOLS: dict[str, Callable[[Work, int], dict[str, Any]]] = {
    "memguard": memguard,
    "memguard_unplanned": memguard_unplanned,
    "psleak": psleak,
    "objgraph": objgraph,
    "ols": ols,
    "loky": loky,
}
