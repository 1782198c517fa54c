"""Leaks a logger an iteration: the logging module never forgets a name."""

import logging

TRUTH = {"leaks": True, "kind": "python", "bytes": 1_000, "names": ["logging", "Logger", "loggerDict"]}


def iteration(number: int) -> None:
    """Log by the name of the job."""
    logging.getLogger(f"jobs.{number}").debug("done")
