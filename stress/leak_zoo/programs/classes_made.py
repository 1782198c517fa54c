"""Leaks classes: a record type is made for each request and remembered by its name."""

TRUTH = {"leaks": True, "kind": "python", "bytes": 2_500, "names": ["TYPES", "type"]}
TYPES: dict[str, type] = {}


def iteration(number: int) -> None:
    """Make a class for a table that is seen once."""
    name = f"Table{number}"
    TYPES[name] = type(name, (), {"columns": [f"column {place}" for place in range(5)]})
