"""The sentinel's log: one JSON line for each event, in a file that stays small, or on stderr.

Comes in: events. Goes out: lines. A log that cannot be written stops nobody.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from memguard.events import Event, JsonScalar

__all__ = ["Journal"]

# Thousands of lines; the file before it is kept, so that twice as much is there at most.
_LARGEST_BYTES: Final = 1 << 20


class Journal:
    """Writes events, each as a line.

    Args:
        path: the file; ``None`` for stderr.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def write(self, name: str, lease_id: str = "", /, **fields: JsonScalar) -> None:
        """Write one event; a line that cannot be written is left out.

        Args:
            name: one of `memguard.events.EVENTS`.
            lease_id: whose job it is about.
            fields: figures and words.
        """
        event = Event(name, lease_id, fields=fields)
        with contextlib.suppress(
            OSError, ValueError
        ):  # a full disk, a closed stream: there is nobody to tell
            self._write_line(_line(event))

    def _write_line(self, line: str) -> None:
        if self._path is None:
            sys.stderr.write(line)
            sys.stderr.flush()
            return
        descriptor = os.open(
            self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            os.write(descriptor, line.encode())
            full = os.fstat(descriptor).st_size > _LARGEST_BYTES
        finally:
            os.close(descriptor)
        if full:
            os.replace(self._path, f"{self._path}.1")


def _line(event: Event) -> str:
    fields: Mapping[str, JsonScalar] = {
        "event": event.name,
        "time": round(event.wall_time_s, 3),
        **({"lease_id": event.job_id} if event.job_id else {}),
        **event.fields,
    }
    return json.dumps(fields, default=str) + "\n"
