"""Leaks native state behind small Python objects: a compressor has 256 KiB of its own."""

import zlib

TRUTH = {"leaks": True, "kind": "native", "bytes": 268_000, "names": ["STREAMS", "Compress"]}
STREAMS: list[object] = []


def iteration(number: int) -> None:
    """Open a stream and do not finish it."""
    stream = zlib.compressobj()
    stream.compress(bytes([number % 251]) * 60_000)
    STREAMS.append(stream)
