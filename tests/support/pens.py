"""Memory cgroups for tests that fill a machine: its limit is the machine's for whoever is inside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from memguard.host import Fence
from memguard.testing.pen import NoPenError, open_pen


@contextmanager
def pen(limit_bytes: int) -> Iterator[Fence]:
    """A machine of a size; skips the test where none can be made."""
    try:
        opened = open_pen("pen", limit_bytes)
    except NoPenError as error:
        pytest.skip(str(error))
    with opened:
        yield opened
