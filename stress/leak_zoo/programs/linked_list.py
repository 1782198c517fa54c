"""Leaks a chain: each state knows the one before, back to the first."""

TRUTH = {"leaks": True, "kind": "python", "bytes": 1_300, "names": ["NEWEST", "Version"]}


class Version:
    """One version of a document."""

    def __init__(self, text: str, before: "Version | None") -> None:
        self.text = text
        self.before = before


NEWEST: list[Version] = [Version("", None)]


def iteration(number: int) -> None:
    """Make a new version."""
    NEWEST[0] = Version(f"{number:01200d}", NEWEST[0])
