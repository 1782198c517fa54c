"""Loads a model for each of three languages, when the first text in it comes."""

TRUTH = {"leaks": False}
MODELS: dict[str, list[float]] = {}
FIRST_TEXTS = {14: "sv", 27: "da", 90: "no"}


def iteration(number: int) -> None:
    """Load what is missing."""
    if (language := FIRST_TEXTS.get(number)) is not None:
        MODELS[language] = [number + place / 3 for place in range(20_000)]
