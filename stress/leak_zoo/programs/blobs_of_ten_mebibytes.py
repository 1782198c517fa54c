"""Leaks 10 MiB an iteration in plain bytes."""

TRUTH = {"leaks": True, "kind": "python", "bytes": 10_485_793, "names": ["BLOBS", "bytes"]}
BLOBS: list[bytes] = []


def iteration(number: int) -> None:
    """Keep an upload."""
    BLOBS.append(bytes([number % 250 + 1]) * 10_485_760)
