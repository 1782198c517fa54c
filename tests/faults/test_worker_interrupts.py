"""Ctrl-C at every moment of a run: nothing runs on, no room stays taken, no descriptor open, and the next run works."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.guarded import run_python

# Raises KeyboardInterrupt in place of some lines of the caller's side, one at each run, and looks what is left.
PROGRAM = """
import json, os, select, sys, time, warnings
from memguard import MemoryManager
from memguard.host import children_of
from memguard.worker import job, launch, protocol, templates
from memguard import jobs, manager

FILES = {each.__file__ for each in (job, launch, protocol, templates, jobs, manager)}
COLD, POINTS = {cold}, {points}

def is_dying(frame):
    # What an object does when it dies can raise nothing to anybody.
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None

class Lines:
    def __init__(self, fatal):
        self.fatal, self.count, self.where = fatal, 0, ""
    def see_call(self, frame, event, argument):
        return self.see_line if frame.f_code.co_filename in FILES and not is_dying(frame) else None
    def see_line(self, frame, event, argument):
        if event == "line":
            self.count += 1
            if self.count == self.fatal:
                self.where = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
                sys.settrace(None)
                raise KeyboardInterrupt
        return self.see_line

def quick():
    return 1

def traced(fatal):
    lines = Lines(fatal)
    sys.settrace(lines.see_call)
    try:
        found.run(quick, memory="64MiB")
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
    return lines

def eventually(holds):
    end = time.monotonic() + 10
    while not holds() and time.monotonic() < end:
        select.select([], [], [], 0.002)
    return holds()

def descriptors():
    return len(os.listdir("/proc/self/fd"))

def is_idle():
    templates = [pid for pid, _ in children_of(os.getpid())]
    if len(templates) != 1:
        return False
    keepers = [pid for pid, _ in children_of(templates[0])]
    return len(keepers) == 1 and len(children_of(keepers[0])) == 1

def make_cold():
    if COLD:
        found._pool._current.close()

found = MemoryManager("1GiB")
found.run(quick, memory="64MiB")
make_cold()
total = traced(0).count
assert eventually(is_idle)
before, wrong = descriptors(), []
for number in range(POINTS):
    make_cold()
    lines = traced(1 + number * total // POINTS)
    room = found.allocator.statistics()
    if room.reserved_bytes or room.waiting or found._stops._requests:
        wrong.append([lines.where, "room", str(room)])
    try:
        value = found.run(quick, memory="64MiB").value
    except BaseException as error:
        wrong.append([lines.where, "next run", repr(error)])
    if not eventually(is_idle):
        wrong.append([lines.where, "processes", str(children_of(os.getpid()))])
    if descriptors() != before:
        wrong.append([lines.where, "descriptors", str(descriptors() - before)])
        before = descriptors()
found.close()
print(json.dumps({"total": total, "wrong": wrong, "left": len(children_of(os.getpid()))}))
"""


def interrupted(**options: Any) -> Any:
    program = PROGRAM
    for name, value in options.items():
        program = program.replace("{" + name + "}", str(value))
    done = run_python(program)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("cold", "points"), [(False, 60), (True, 6)], ids=["warm", "cold"])
def test_an_interrupt_at_any_line_leaves_nothing(cold: bool, points: int) -> None:
    """Between any two lines of the caller's side, with a template that runs and while one starts."""
    found = interrupted(cold=cold, points=points)
    assert found["total"] > 200
    assert found["wrong"] == []
    assert found["left"] == 0
