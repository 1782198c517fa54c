"""Leaks what finalizers of an immortal object hold."""

import weakref

TRUTH = {"leaks": True, "kind": "python", "bytes": 1_700, "names": ["finalize", "_registry", "_Info"]}


class Application:
    """Lives as long as the process."""


APPLICATION = Application()


def iteration(number: int) -> None:
    """Have a temporary result removed when the application ends."""
    weakref.finalize(APPLICATION, len, bytes([number % 251]) * 1_000)
