"""Leaks at every tenth iteration: a checkpoint of 30 KB is kept."""

TRUTH = {"leaks": True, "kind": "python", "bytes": 3_000, "names": ["CHECKPOINTS", "bytes"]}
CHECKPOINTS: list[bytes] = []


def iteration(number: int) -> None:
    """Work; checkpoint now and then."""
    sum(range(1000))
    if number % 10 == 7:
        CHECKPOINTS.append(bytes([number % 251]) * 30_000)
