"""Leaks into an in-memory log that nobody reads."""

import io

TRUTH = {"leaks": True, "kind": ("python", "native"), "bytes": 12_000, "names": ["LOG", "StringIO"]}
LOG = io.StringIO()


def iteration(number: int) -> None:
    """Log three kilobytes of text, each character of which takes four bytes."""
    LOG.write(f"{number:>3000}")
