"""AutoFeat fits one after another by way of `AutoFeatProcessor` in one manager: whole fits, light ones, spilling ones.

Invariant: caller and template grow by less than 5 MiB in all and, with 95 % confidence, by less than a page a fit; the
caller holds no more descriptors than after the first counted fit, and nothing is left on disk.

Each fit is two jobs, of a survey and of the fit. A manager keeps the last hundred reports, some KiB each, so the
counting begins when that many jobs have run.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import _common

from memguard import MemoryManager
from memguard.host import children_of, read_process_memory
from memguard.units import MIB

REQUIREMENTS = ("R1.1", "R1.2", "T7.1")

_WARM_UP = 60
_FEWEST = 20  # below that the interval of a slope says nothing
_MOST_GROWTH_BYTES = 5 * MIB
# As in repeat_jobs.py: an allocator takes a page here or there, which is no leak.
_NO_SLOPE_BYTES = os.sysconf("SC_PAGESIZE")
_BUDGET = "512MiB"


def soak(parsed: argparse.Namespace, checks: _common.Checks) -> None:
    """Fit again and again, and judge what is held after each."""
    checks.check(parsed.count >= _FEWEST, f"{parsed.count} fits are too few to tell a slope")
    # Here, for they take their seconds, and a program that is only listed needs none of them.
    from memguard_integrations.autofeat.jobs import preload_for  # noqa: PLC0415
    from memguard_integrations.autofeat.records import Engine  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TMPDIR"] = scratch
        with MemoryManager("70%", preload=preload_for(Engine.MEMGUARD)) as manager:
            fit = _fitting(manager)
            for number in range(min(_WARM_UP, parsed.count)):
                fit(number)
            callers: list[int] = []
            templates: list[int] = []
            descriptors: list[int] = []
            for number in range(parsed.count):
                checks.check(fit(number) > 0, f"fit {number} chose no column")
                callers.append(read_process_memory().private_bytes)
                templates.append(
                    sum(read_process_memory(pid).private_bytes for pid, _ in children_of(os.getpid()))
                )
                descriptors.append(_common.descriptor_count())
            _judge("caller", callers, checks)
            _judge("template", templates, checks)
            checks.check(max(descriptors) <= descriptors[0], f"descriptors rose to {max(descriptors)}")
        checks.check(not list(Path(scratch).iterdir()), f"left in {scratch}: {list(Path(scratch).iterdir())}")


def _fitting(manager: MemoryManager) -> Callable[[int], int]:
    """Return a function that fits on a part of the diabetes data; every tenth time in so little that it does less."""
    from sklearn.datasets import load_diabetes  # noqa: PLC0415

    from memguard.integrations.autofeat import AutoFeatProcessor, LightMode  # noqa: PLC0415

    data = load_diabetes(as_frame=True, scaled=False)
    features, target = data.data[["bmi", "bp", "s5"]].iloc[:150], data.target.iloc[:150]

    def fit(number: int) -> int:
        is_small = number % 10 == 9
        processor = AutoFeatProcessor(
            steps=3 if is_small else 1,
            featsel_runs=1,
            manager=manager,
            memory="128MiB" if is_small else _BUDGET,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LightMode)
            return len(processor.fit(features, target).good_cols_)

    return fit


def _judge(name: str, readings: list[int], checks: _common.Checks) -> None:
    growth = _common.robust_slope(readings)
    print(f"{name}: {len(readings)} fits, private memory {readings[0] / MIB:.1f} MiB at first, {growth}")
    checks.check(growth.total < _MOST_GROWTH_BYTES, f"{name} grew: {growth}")
    checks.check(growth.low < _NO_SLOPE_BYTES, f"{name} grows with each fit: {growth}")


def main() -> int:
    """Run the fits."""
    return _common.run_in_pen(soak, _common.options(__doc__, count=200).parse_args())


if __name__ == "__main__":
    sys.exit(main())
