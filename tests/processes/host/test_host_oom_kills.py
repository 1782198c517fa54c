"""Whose death by the kernel's out-of-memory killer is counted: that of those around this process, and of no others."""

from __future__ import annotations

import subprocess
import sys

import pytest

from memguard.host import machine_oom_kills, open_fence
from memguard.units import MIB


def test_a_kill_in_another_cgroup_is_none_of_ours() -> None:
    """A process that the kernel kills for the limit of its own cgroup says nothing of why one of ours died."""
    fence = open_fence("probe", 64 * MIB)
    if fence is None:
        pytest.skip("no memory cgroup can be made here")
    before = machine_oom_kills()
    with fence:
        grows = f"open({fence.path + '/cgroup.procs'!r}, 'w').write('0'); x = bytearray(200 << 20)"
        assert subprocess.run([sys.executable, "-c", grows], check=False).returncode == -9
        assert fence.read().oom_kills == 1
    assert machine_oom_kills() == before
