"""A cache made by hand fills: it throws the oldest entry out when it has more than eighty."""

from collections import OrderedDict

TRUTH = {"leaks": False}
PAGES: OrderedDict[int, bytes] = OrderedDict()


def iteration(number: int) -> None:
    """Cache a page."""
    PAGES[number] = bytes([number % 251]) * 6_000
    if len(PAGES) > 80:
        PAGES.popitem(last=False)
