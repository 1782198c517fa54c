"""The stages that free memory while work goes on, and the measurement of what they freed.

First the caches and pools that are known to the whole process, then what each manager has: handlers that shed, then
its other emergency handlers, and one collection at the end.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Sequence

from memguard.cleanup.reports import HandlerOutcome, HandlerResult, Occasion
from memguard.cleanup.runner import Runner
from memguard.host import TreeSampler
from memguard.memory import shed_each

__all__ = ["Emergency", "own_private_bytes"]


class Emergency:
    """Pools of the process, then handlers that shed and the other ones of each runner; then one collection."""

    def __init__(self, runners: Sequence[Runner], read_private_bytes: Callable[[], int]) -> None:
        self._runners = runners
        self._read_private_bytes = read_private_bytes

    def run(
        self, target_bytes: int, interrupts: list[BaseException]
    ) -> tuple[list[HandlerResult], int | None]:
        """Do all stages.

        Returns:
            The results, and by how much private memory fell; ``None`` where it could not be measured.
        """
        before = self._measure()
        results = _shed_pools(target_bytes, interrupts)
        target_bytes = max(0, target_bytes - sum(each.freed_bytes or 0 for each in results))
        for runner in self._runners:
            done = runner.run(Occasion.EMERGENCY, target_bytes, interrupts)
            target_bytes = max(0, target_bytes - sum(each.freed_bytes or 0 for each in done))
            results += done
        results.append(_collect_garbage())
        after = self._measure()
        return results, None if before is None or after is None else before - after

    def _measure(self) -> int | None:
        try:
            return self._read_private_bytes()
        except OSError:
            return None  # the report says so; no reason to keep memory that can be freed


def _shed_pools(target_bytes: int, interrupts: list[BaseException]) -> list[HandlerResult]:
    results: list[HandlerResult] = []
    try:
        for told in shed_each(target_bytes):
            outcome = HandlerOutcome.FAILED if told.error else HandlerOutcome.OK
            results.append(
                HandlerResult(told.name, outcome, told.duration_s, told.error, told.given_back_bytes)
            )
    except BaseException as error:  # noqa: BLE001 - Ctrl-C; raised by the manager, after the other stages
        interrupts.append(error)
    return results


def _collect_garbage() -> HandlerResult:
    # One of the two places that may: what only the collector can free is freed when memory is short.
    started_s = time.monotonic()
    found = gc.collect()
    took_s = time.monotonic() - started_s
    return HandlerResult("garbage collection", HandlerOutcome.OK, took_s, f"{found} unreachable objects")


def own_private_bytes() -> int:
    """Measure this process exactly, its children left out.

    Raises:
        OSError: it cannot be measured.
    """
    own = os.getpid()
    reading = TreeSampler(own).sample(exact=True)
    return sum(each.private_bytes + each.swap_bytes for each in reading.processes if each.pid == own)
