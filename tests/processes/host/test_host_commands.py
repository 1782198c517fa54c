"""``memguard status`` and ``memguard doctor`` inside a real fence, and beside a stale one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from memguard.host import Fence, sweep_stale_fences
from memguard.units import MIB

if TYPE_CHECKING:
    from conftest import Helper


def test_status_inside_a_fence_tells_the_fence(
    make_fence: Callable[..., Fence], helper: Helper, enter: Callable[[Helper, Fence], None]
) -> None:
    """A command that runs in a job sees the job's limit as its capacity, and where it is set."""
    fence = make_fence(200 * MIB)
    enter(helper, fence)
    helper.do("taken = bytearray(50 * MIB)")
    text = helper.do(
        "command = [sys.executable, '-m', 'memguard', 'status', '--json']\n"
        "answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout"
    )
    found = json.loads(text)
    assert found["capacity_bytes"] == 200 * MIB
    assert 50 * MIB < found["used_bytes"] < 120 * MIB
    (binding,) = [limit for limit in found["limits"] if limit["binds"]]
    assert binding["path"].startswith(fence.path)


def test_the_doctor_shows_stale_fences_and_touches_none(
    make_fence: Callable[..., Fence], helper: Helper
) -> None:
    """A fence whose owner was killed is told with its path, and is still there afterwards."""
    path = helper.do(
        "from memguard.host import open_fence\nfence = open_fence('left', 64 * MIB)\nanswer = fence.path"
    )
    helper.end()
    done = subprocess.run(
        [sys.executable, "-m", "memguard", "doctor"], capture_output=True, text=True, check=True
    )
    assert f"STALE {path}: its owner was killed; the next job removes it" in done.stdout.splitlines()
    assert os.path.isdir(path)
    sweep_stale_fences()
    assert not os.path.exists(path)
