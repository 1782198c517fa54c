"""Leaks into fifty lists in turn: none of them grows at each iteration."""

TRUTH = {"leaks": True, "kind": "python", "bytes": 640, "names": ["VISITS", "list"]}
VISITS: dict[int, list[str]] = {user: [] for user in range(50)}


def iteration(number: int) -> None:
    """Note some visits."""
    for place in range(5):
        VISITS[(number * 5 + place) % 50].append(f"visit {number} {place} " + "x" * 60)
