"""Writes temporary files and closes them."""

import tempfile

TRUTH = {"leaks": False}


def iteration(number: int) -> None:
    """Spill to disk and read back."""
    with tempfile.TemporaryFile() as file:
        file.write(bytes([number % 251]) * 100_000)
        file.seek(0)
        file.read()
