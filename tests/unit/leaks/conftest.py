"""Tests of leaks ask the collector who holds what: it must know of all objects."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def whole_heap() -> Iterator[None]:
    """Take back what was hidden from the collector for the sake of all other tests, while a file's tests run."""
    gc.unfreeze()
    yield
    gc.collect()
    gc.freeze()
