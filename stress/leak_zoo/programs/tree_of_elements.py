"""Leaks elements below the root of a document that is written once a day."""

from xml.etree import ElementTree as ET

TRUTH = {"leaks": True, "kind": "python", "bytes": 1_000, "names": ["ROOT", "Element"]}

ROOT = ET.Element("log")


def iteration(number: int) -> None:
    """Note three things."""
    for what in ("start", "work", "end"):
        ET.SubElement(ROOT, what, number=str(number), text="x" * 100)
