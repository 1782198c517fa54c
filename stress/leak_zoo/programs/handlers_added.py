"""Leaks logging handlers: the set-up is called again for each job."""

import io
import logging

TRUTH = {"leaks": True, "kind": "python", "bytes": 2_500, "names": ["handlers", "Handler", "logging"]}
LOG = logging.getLogger("zoo.jobs")


def iteration(number: int) -> None:
    """Set logging up, once more."""
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(logging.Formatter(f"{number} %(message)s"))
    LOG.addHandler(handler)
