"""Where what stays was allocated, by lines; and pictures of who holds it."""

from __future__ import annotations

import tracemalloc
from xml.etree import ElementTree as ET

from memguard.leaks.allocated import allocations_of
from memguard.leaks.pictures import picture_of
from memguard.leaks.records import Culprit


def test_the_line_that_keeps_is_told_and_no_other() -> None:
    """A line that keeps 3000 bytes a call is told with its bytes; one whose bytes go again is not."""
    kept = []

    def work(number: int) -> None:
        bytes(50_000 + number)
        kept.append(bytes(3000 + number))

    (site,) = allocations_of(work, warm_up=2, iterations=10)
    assert site.file == __file__
    assert site.line == work.__code__.co_firstlineno + 2
    assert 3000 <= site.bytes_per_iteration <= 3200
    assert site.blocks_per_iteration >= 0.9
    assert not tracemalloc.is_tracing()


def test_somebody_elses_trace_runs_on() -> None:
    """Where tracemalloc runs already it is not stopped."""
    tracemalloc.start()
    try:
        assert allocations_of(lambda number: None, warm_up=1, iterations=2) == ()
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()


def test_a_picture_has_every_link_and_is_sound() -> None:
    """Each culprit is a column with its holder, its links and its type; names that look like markup are escaped."""
    culprits = [
        Culprit(
            "bytes", "app.CACHE: dict, +1 entries/iteration", 5000.0, ("app.CACHE", "dict['...']", "<lambda>")
        ),
        Culprit("app.Node & Co", "", 20.0),
    ]
    root = ET.fromstring(picture_of(culprits))
    texts = [each.text for each in root.iter() if each.tag.endswith("}text")]
    for part in (
        "app.CACHE: dict, +1 entries/iteration",
        "dict['...']",
        "<lambda>",
        "app.Node & Co",
        "held by no name",
    ):
        assert part in texts
    assert sum(each.tag.endswith("}line") for each in root.iter()) == 3


def test_a_picture_of_nobody_is_a_picture() -> None:
    """Without culprits the picture is empty, and sound."""
    assert ET.fromstring(picture_of([])).tag.endswith("svg")
