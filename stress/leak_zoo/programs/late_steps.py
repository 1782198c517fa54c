"""Two tables are loaded when they are first needed, late."""

TRUTH = {"leaks": False}
TABLES: dict[str, list[int]] = {}


def iteration(number: int) -> None:
    """Load a table at iterations 24 and 120."""
    if number in (24, 120):
        TABLES[f"table {number}"] = list(range(50_000))
