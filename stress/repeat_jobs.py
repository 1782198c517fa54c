"""Jobs one after another: allocating functions, and real AutoFeat fits where autofeat is installed.

Invariant: the caller grows by less than 5 MiB in all and, with 95 % confidence, by less than a page a job; it holds
no more descriptors than after the first job; its only descendants are the templates and the keeper that waits in each.

A manager keeps the last hundred reports, some KiB each, so the counting begins when that many jobs have run.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import _common

from memguard import MemoryManager
from memguard.host import children_of, read_process_memory, wait_all_gone
from memguard.testing import allocate
from memguard.units import MIB

REQUIREMENTS = ("R1.1", "R1.2", "R2.3", "T7.1")

_MOST_GROWTH_BYTES = 5 * MIB
# Then the kept reports are full, and caches that never grow again: allocator arenas, compiled patterns.
_WARM_UP = 110
_BUDGET = "512MiB"
_TAKEN_BYTES = 8 * MIB
_FEWEST = 20  # below that the interval of a slope says nothing
# Memory comes in pages, and an allocator takes a page here or there for the first 2000 jobs or so until it rests (at
# 24 MiB here). Less than a page a job cannot be told from that; a fit that leaks takes 24 MiB.
_NO_SLOPE_BYTES = os.sysconf("SC_PAGESIZE")


def allocating(size_bytes: int) -> bytes:
    """Take memory and return some of it."""
    taken = allocate(size_bytes)
    return bytes(taken[: size_bytes // 8])


def autofeat_fit(_: int) -> int:
    """Fit a stock AutoFeatRegressor on a part of the diabetes data; returns the columns it made."""
    from autofeat import AutoFeatRegressor  # noqa: PLC0415 - imported in the job, so that the caller stays small
    from sklearn.datasets import load_diabetes  # noqa: PLC0415

    data = load_diabetes(as_frame=True)
    features = data.data.iloc[:150, :4]
    warnings.filterwarnings("ignore", category=FutureWarning)  # autofeat uses what pandas will drop
    model = AutoFeatRegressor(feateng_steps=1, featsel_runs=1, n_jobs=1, verbose=0)
    return int(model.fit_transform(features, data.target.iloc[:150]).shape[1])


def repeat(parsed: argparse.Namespace, checks: _common.Checks) -> None:
    """Run both kinds of jobs."""
    checks.check(parsed.count >= _FEWEST, f"{parsed.count} jobs are too few to tell a slope")
    with MemoryManager("70%") as manager:
        for _ in range(_WARM_UP):
            manager.run(allocating, _TAKEN_BYTES, memory=_BUDGET)
        series(manager, allocating, _TAKEN_BYTES, parsed.count, checks)
        if parsed.fits and importlib.util.find_spec("autofeat") is None:
            print("autofeat is not installed: its fits are left out")
        elif parsed.fits:
            series(manager, autofeat_fit, 0, parsed.fits, checks)


def series(
    manager: MemoryManager,
    function: Callable[[int], Any],
    size_bytes: int,
    count: int,
    checks: _common.Checks,
) -> None:
    """Run one function many times and judge the series."""
    readings: list[int] = []
    descriptors: list[int] = []
    manager.run(function, size_bytes, memory=_BUDGET)  # starts the template if it needs another
    for number in range(count):
        result = manager.run(function, size_bytes, memory=_BUDGET)
        checks.check(bool(result.value), f"{function.__name__} {number} returned nothing")
        del result
        readings.append(read_process_memory().private_bytes)
        descriptors.append(_common.descriptor_count())
    judge(function.__name__, readings, descriptors, checks)
    check_descendants(checks)


def judge(name: str, readings: list[int], descriptors: list[int], checks: _common.Checks) -> None:
    """Check growth and descriptors of a series."""
    growth = _common.robust_slope(readings)
    print(
        f"{name}: {len(readings)} jobs, caller's private memory {readings[0] / MIB:.1f} MiB at first, {growth}"
    )
    checks.check(growth.total < _MOST_GROWTH_BYTES, f"{name}: the caller grew: {growth}")
    checks.check(growth.low < _NO_SLOPE_BYTES, f"{name}: the caller grows with each job: {growth}")
    most = max(descriptors)
    checks.check(most <= descriptors[0], f"{name}: descriptors rose from {descriptors[0]} to {most}")


def check_descendants(checks: _common.Checks) -> None:
    """Check that there are no templates but the latest two, and no keepers in them but those that wait."""
    templates = children_of(os.getpid())
    checks.check(len(templates) <= 2, f"more than the present template and the one before it: {templates}")
    # A keeper ends a moment after it has told of its job's end.
    extra = [each for pid, _ in templates for each in children_of(pid)[:-1]]
    checks.check(wait_all_gone(extra, 10.0), f"keepers of ended jobs are left: {extra}")


def main() -> int:
    """Run the series."""
    parser = _common.options(__doc__, count=200)
    parser.add_argument("--fits", type=int, default=20, help="AutoFeat fits, 0 for none (default: 20)")
    return _common.run_in_pen(repeat, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
