"""A pen is a machine to whoever is inside, no fence of a job, and gone with its block."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from memguard.host.fence_names import parse_fence_name
from memguard.host.fence_place import NoPlace
from memguard.testing import pen as module
from memguard.testing.pen import NoPenError, open_pen
from tests.support.pens import pen

MIB = 1024**2
SEES = "from memguard.host import read_machine; print(read_machine().capacity_bytes, flush=True); input()"


def test_who_is_inside_sees_a_small_machine_and_ends_with_it() -> None:
    """The limit is the machine's memory, the name is none that a sentinel takes for a job's, and nobody is left."""
    with pen(128 * MIB) as made, pen(64 * MIB) as other:
        assert made.path != other.path
        assert parse_fence_name(made.path) is None
        inside = subprocess.Popen(
            [sys.executable, "-c", SEES],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=made.enter,  # noqa: PLW1509 - one write, and there is no other thread here
        )
        assert inside.stdout is not None
        assert int(inside.stdout.readline()) == 128 * MIB
    with inside:
        inside.communicate()
    assert inside.returncode == -9
    assert not os.path.exists(made.path)


def test_where_none_can_be_made_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is the host's own."""
    monkeypatch.setattr(module, "choose_place", lambda: NoPlace("nobody may"))
    with pytest.raises(NoPenError, match="no memory cgroup can be made here: nobody may"):
        open_pen("pen", MIB)
