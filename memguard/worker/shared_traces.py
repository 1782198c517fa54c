"""What a process tree leaves in /dev/shm: known while it lives, removed when it is dead, by its guard or after that.

Comes in: what its processes hold and who they are, look by look, and what was there before them. Goes out: the entries
that are its own, because they held them or because a name holds the pid of one of them
(`memguard.host.shared_names`); at the end, what was removed and whether anything is left. It samples: a file that was
made and let go of between two looks, under a name that tells nothing, is not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from memguard.host import named_after, remove_abandoned, still_there
from memguard.host.readings import SharedFile

__all__ = ["SharedNote", "SharedTraces"]

_Key = tuple[int, int]


@dataclass(frozen=True, slots=True)
class SharedNote:
    """What whoever clears up after a killed guard must know.

    Attributes:
        files: the tree's entries in /dev/shm at the last look.
        makers: pid and start ticks of who may have made more since: the processes met between the last two looks.
    """

    files: tuple[SharedFile, ...] = ()
    makers: tuple[tuple[int, int], ...] = ()

    @classmethod
    def from_message(cls, content: Mapping[str, Any]) -> SharedNote:
        """Rebuild it from its fields, as JSON gives them back."""
        files = tuple(SharedFile(**each) for each in content["files"])
        return cls(files, tuple((pid, ticks) for pid, ticks in content["makers"]))

    def says_the_same(self, other: SharedNote) -> bool:
        """Whether it names the same things; a size changes all the time, and the same name may be another file."""
        return self.makers == other.makers and list(map(_named, self.files)) == list(map(_named, other.files))


class SharedTraces:
    """Keeps account of one tree's entries in /dev/shm.

    Args:
        before: `memguard.host.shared_memory_there` from before the tree began.
        known: what another account had come to.
    """

    def __init__(self, before: frozenset[_Key], known: SharedNote | None = None) -> None:
        self._before = before
        self.last = known or SharedNote()

    def note(self, held: Iterable[SharedFile], met: Iterable[tuple[int, int]]) -> None:
        """Take account of one look.

        Args:
            held: what processes of the tree hold now, or held and left.
            met: pid and start ticks of everybody in the tree since the look before, the dead among them. What they made
                before they died is there to be seen.
        """
        met = tuple(met)
        named = named_after({pid for pid, _ in met}, self._before)
        found = {_key(file): file for file in (*self.last.files, *named, *held)}
        there = still_there(file for key, file in found.items() if key not in self._before)
        self.last = SharedNote(there, met)

    def clear(self, met: Iterable[tuple[int, int]], since_wall_s: float) -> tuple[list[str], bool]:
        """Remove what is left when the tree is dead.

        Args:
            met: as in `note`.
            since_wall_s: when the tree began, seconds since the epoch.

        Returns:
            A line for each entry that was removed or is still there, and whether none is.
        """
        self.note((), {*self.last.makers, *met})
        removed = remove_abandoned(self.last.files, since_wall_s)
        left = still_there(self.last.files)
        told = [
            *(f"shared memory {_told(file)} was removed" for file in removed),
            *(f"shared memory {_told(file)} is left: in use, or another user's" for file in left),
        ]
        return told, not left


def _key(file: SharedFile) -> _Key:
    return file.device, file.inode


def _named(file: SharedFile) -> tuple[str, int, int]:
    return file.path, file.device, file.inode


def _told(file: SharedFile) -> str:
    return f"{file.path} ({file.allocated_bytes} bytes)"
