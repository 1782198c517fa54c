"""Public fakes and hogs for tests of code that is guarded by memguard.

Comes in: what a test wants to happen (a time, a series of readings, an order of steps, a hungry process).
Goes out: stand-ins for what a test cannot have (`FakeClock`, `ScriptedSampler`), an order between
threads (`Sequencer`), and functions and a command that take real memory and misbehave for real.
It does not fake memory: what a hog takes is touched and counts; `pen.py` makes a small machine to fill. Read
clock.py first; `python -m memguard.testing.hog --help` is the hungry command.
"""

from __future__ import annotations

from memguard.testing.clock import FakeClock, FakeEvent
from memguard.testing.hogs import (
    LeakedBytes,
    allocate,
    end_tree,
    fork_tree,
    ignore_sigterm,
    leak,
    segfault,
)
from memguard.testing.sampler import ScriptedSampler, tree_reading
from memguard.testing.sequencer import SequenceError, Sequencer

__all__ = [
    "FakeClock",
    "FakeEvent",
    "LeakedBytes",
    "ScriptedSampler",
    "SequenceError",
    "Sequencer",
    "allocate",
    "end_tree",
    "fork_tree",
    "ignore_sigterm",
    "leak",
    "segfault",
    "tree_reading",
]
