"""Other users of this machine, for tests run as root: programs of theirs, with nothing of root's rights.

Root's home folder, in which the interpreter may lie, is closed to them. Each program has mounts of its own,
where such a folder is an open one that holds nothing but what the interpreter needs; these vanish with it.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Of nobody on any machine that is known: above those that people and containers have.
FIRST, SECOND = 64_801, 64_802


def as_user(uid: int, *words: str) -> tuple[str, ...]:
    """Return the words that run a program as another user, who belongs to no group but his own."""
    become = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs", *words)
    return ("unshare", "--mount", "--propagation=private", "/bin/sh", "-c", _script(), "sh", *become)


@functools.cache
def _script() -> str:
    """Return a script that opens the way to the interpreter and to memguard, and then is the command."""
    closed: dict[Path, list[Path]] = {}
    for needed in _needed():
        first = next((each for each in reversed(needed.parents) if not each.stat().st_mode & 0o001), None)
        if first is not None:
            closed.setdefault(first, []).append(needed)
    lines = ["set -e"]
    for folder, inside in closed.items():
        # What is below the folder is bound elsewhere while the folder is covered: the cover itself hides it.
        lines += ["mount -t tmpfs -o mode=0755 none /mnt"]
        for number, needed in enumerate(inside):
            lines += [f"mkdir /mnt/{number}", f"mount --bind {shlex.quote(str(needed))} /mnt/{number}"]
        lines += [f"mount -t tmpfs -o mode=0755 none {shlex.quote(str(folder))}"]
        for number, needed in enumerate(inside):
            place = shlex.quote(str(needed))
            lines += [f"mkdir -p -m 0755 {place}", f"mount --bind /mnt/{number} {place}"]
    return "\n".join([*lines, 'exec "$@"'])


def _needed() -> Iterator[Path]:
    named = (sys.base_prefix, sys.prefix, str(ROOT), *os.environ.get("PYTHONPATH", "").split(":"))
    paths = {Path(each) for each in named if each and os.path.isdir(each)}
    yield from sorted({way for each in paths for way in (each, each.resolve())})


@functools.cache
def why_not() -> str:
    """Return why nothing can be run as another user here, or ``""``."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None or shutil.which("unshare") is None:
        return "it needs root, setpriv and unshare"
    words = as_user(FIRST, sys.executable, "-c", "import memguard.cli.main")
    done = subprocess.run(words, cwd="/", capture_output=True, text=True, check=False)
    return f"no other user can run memguard here: {done.stderr.strip()}" if done.returncode else ""
