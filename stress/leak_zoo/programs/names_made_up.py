"""Leaks nothing: attributes are looked up by names that were never seen; the interpreter remembers some thousand."""

TRUTH = {"leaks": False}


class Settings:
    """Has few of them."""

    depth = 3


SETTINGS = Settings()


def iteration(number: int) -> None:
    """Ask for ten settings that are not there."""
    for place in range(10):
        getattr(SETTINGS, f"layer_{number}_{place}", None)
