"""Imports a module of the standard library in each of the first iterations."""

import importlib

TRUTH = {"leaks": False}
NAMES = ["colorsys", "calendar", "cmd", "csv", "difflib", "fileinput", "html.parser", "ipaddress", "mailbox"]


def iteration(number: int) -> None:
    """Import what is needed now."""
    if number < len(NAMES):
        importlib.import_module(NAMES[number])
