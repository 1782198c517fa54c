"""A saw-tooth of seventy iterations: rows are gathered and written out."""

TRUTH = {"leaks": False}
ROWS: list[list[int]] = []


def iteration(number: int) -> None:
    """Gather a row; write all out at times."""
    ROWS.append([number] * 300)
    if number % 70 == 69:
        ROWS.clear()
