"""A manager of cleanups, and handlers that note when they are called."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from memguard.cleanup import CleanupManager
from tests.support.cleanups import Calls


@pytest.fixture
def manager() -> Iterator[CleanupManager]:
    made = CleanupManager()
    yield made
    made.close()


@pytest.fixture
def calls() -> Calls:
    return Calls()
