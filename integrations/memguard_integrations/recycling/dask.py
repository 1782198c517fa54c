"""Dask: a worker that leaks hands its data to others and closes, and its nanny starts another in its place."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

from distributed import Worker, WorkerPlugin
from distributed.core import Status

from memguard.leaks.recycling import RecycledWorker, WorkerWatch, beside_jobs

__all__ = ["TOPIC", "LeakPlugin"]

_log: Final = logging.getLogger("memguard.leaks")
TOPIC: Final = "memguard-leaks"
_RUNNING: Final = frozenset({"executing", "long-running"})
_OVER: Final = frozenset({"memory", "error"})
_GONE: Final = frozenset({Status.closing, Status.closed, Status.failed})
_PAUSE_S: Final = 1.0


class LeakPlugin(WorkerPlugin):
    """Watches each worker of a cluster from task to task, and has workers replaced that leak.

    ``client.register_plugin(LeakPlugin())``; what was found is in ``client.get_events(TOPIC)``: documents
    ``memguard.leaks/1`` with ``worker``, ``pid``, ``jobs`` and ``recycled``. A worker without a nanny is only
    told of, since nobody would start another one in its place; one that holds results and has nobody to give them to
    waits until it has. Tasks that are under way when it closes are run again by others.
    What tasks leave in the worker on purpose, results that are waited for, grows too, and is freed with them.

    Args:
        share: of a worker's time that closer looks may take; see `memguard.leaks.recycling.WorkerWatch`.
    """

    name = TOPIC

    def __init__(self, *, share: float = 0.005) -> None:
        self._share = share
        self._worker: Worker | None = None
        self._watch: WorkerWatch | None = None

    def setup(self, worker: Worker) -> None:
        """Begin in a worker."""
        self._worker = worker
        self._watch = WorkerWatch(self._share)
        with beside_jobs():
            self._watch.begin()

    def teardown(self, worker: Worker) -> None:
        """End the watch, and leave nothing registered."""
        if self._watch is not None:
            self._watch.close()

    def transition(self, key: object, start: str, finish: str, **kwargs: Any) -> None:
        """Count each task that ends."""
        if self._watch is None or start not in _RUNNING or finish not in _OVER:
            return
        with beside_jobs():
            found = self._watch.job_ended()
            if found is not None:
                self._recycle(found)

    def _recycle(self, found: RecycledWorker) -> None:
        worker = self._worker
        assert worker is not None
        is_replaced = worker.nanny is not None
        known = {"worker": worker.address, "pid": found.pid, "jobs": found.jobs, "recycled": is_replaced}
        report = found.replaced().report if is_replaced else found.report
        worker.log_event(TOPIC, known | report.to_json())
        if is_replaced:
            worker.loop.add_callback(_replace, worker)


async def _replace(worker: Worker) -> None:
    """Close a worker once others have taken its data: else it would be lost, and be computed again."""
    try:
        while worker.status not in _GONE and not await _is_retired(worker):
            await asyncio.sleep(_PAUSE_S)
    except OSError as error:  # CommClosedError is one: without a scheduler a worker ends by itself
        _log.warning("a worker that leaks is not replaced, its scheduler does not answer: %s", error)
        return
    if worker.status not in _GONE:
        await worker.close(nanny=False, reason="memguard: its tasks leak")


async def _is_retired(worker: Worker) -> bool:
    """Have the scheduler give this worker no more tasks and its data to others; it refuses where there are none."""
    if worker.data and not await _has_others(worker):
        return False
    retired = await worker.scheduler.retire_workers(
        workers=[worker.address],
        close_workers=False,
        remove=True,
        stimulus_id=f"memguard-leaks-{time.time()}",
    )
    return worker.address in retired


async def _has_others(worker: Worker) -> bool:
    known = await worker.scheduler.identity()
    others = (each for address, each in known["workers"].items() if address != worker.address)
    return any(each["status"] == Status.running.name for each in others)
