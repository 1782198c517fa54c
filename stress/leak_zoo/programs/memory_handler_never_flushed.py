"""Leaks log records into a handler that waits for a target before it flushes."""

import logging
import logging.handlers

TRUTH = {"leaks": True, "kind": "python", "bytes": 1_500, "names": ["buffer", "LogRecord"]}

HANDLER = logging.handlers.MemoryHandler(capacity=10**9)
LOGGER = logging.getLogger("jobs.steps")
LOGGER.propagate = False
LOGGER.setLevel(logging.INFO)
LOGGER.addHandler(HANDLER)


def iteration(number: int) -> None:
    """Log a step."""
    LOGGER.info("step %d has %s", number, f"{number}," * 100)
