"""Leaks one small bytes object an iteration into a list."""

TRUTH = {"leaks": True, "kind": "python", "bytes": 233, "names": ["KEPT", "bytes"]}
KEPT: list[bytes] = []


def iteration(number: int) -> None:
    """Keep 200 bytes."""
    KEPT.append(bytes([number % 251]) * 200)
