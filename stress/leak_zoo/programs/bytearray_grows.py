"""Leaks into one buffer that grows in place: no object is added."""

TRUTH = {"leaks": True, "kind": "python", "bytes": 5_000, "names": ["PROTOCOL", "bytearray"]}
PROTOCOL = bytearray()


def iteration(number: int) -> None:
    """Write to the protocol."""
    PROTOCOL.extend(bytes([number % 251]) * 5_000)
