"""Leaks instances that register themselves in an attribute of their class."""

from typing import ClassVar

TRUTH = {"leaks": True, "kind": "python", "bytes": 500, "names": ["everyone", "Session"]}


class Session:
    """A session that is never forgotten."""

    everyone: ClassVar[list["Session"]] = []

    def __init__(self, number: int) -> None:
        self.number = number
        self.token = f"token {number} " * 20
        Session.everyone.append(self)


def iteration(number: int) -> None:
    """Open a session."""
    Session(number)
