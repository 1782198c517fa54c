"""The exact memory of one process: anonymous pages that nobody else maps, and proportional figures.

Comes in: /proc/PID/smaps_rollup, and /proc/PID/smaps where the sum over all mappings cannot tell.
"Private" pages in the kernel's sense also include pages of files that only this process maps: a memory-mapped
data set, a library, a /dev/shm file. Those are file cache or are counted as shared files, so they
must not be counted again; what is left are anonymous pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from memguard.host._files import parse_kilobytes, read_all

__all__ = ["ExactMemory", "Inherited", "private_anonymous_bytes", "read_exact"]

# Below this the sum is exact enough, and walking every mapping a second time is not worth its cost.
_SLACK_BYTES: Final = 1024**2


@dataclass(frozen=True, slots=True)
class ExactMemory:
    """One process, measured by walking its page tables.

    Attributes:
        private_bytes: anonymous pages that no other process maps.
        shared_anonymous_bytes: anonymous pages that others map too: after a fork, until one side writes.
        shared_anonymous_pss_bytes: its proportional share of those.
        pss_bytes: every page divided by the number of processes that map it.
        rss_bytes: resident set.
        swap_bytes: its proportional share of swapped-out pages.
    """

    private_bytes: int
    shared_anonymous_bytes: int
    shared_anonymous_pss_bytes: int
    pss_bytes: int
    rss_bytes: int
    swap_bytes: int


@dataclass(frozen=True, slots=True)
class Inherited:
    """Anonymous pages that a tree's first process has from a process outside of the tree: a template.

    Attributes:
        anonymous_bytes: how many.
        mappers: how many processes map one of them on average, the first one of the tree included.
    """

    anonymous_bytes: int
    mappers: float

    @classmethod
    def seen_alone(cls, memory: ExactMemory) -> Inherited:
        """Learn it from a tree of one process: whatever that shares, it shares with outsiders."""
        share = memory.shared_anonymous_pss_bytes
        return cls(memory.shared_anonymous_bytes, memory.shared_anonymous_bytes / share if share else 1.0)

    def share_of_tree(self, memory: ExactMemory, forked_members: int) -> int:
        """Return what a member has of the pages that are shared within the tree only, in bytes.

        Sums of private pages leave out what members share with each other, as a pool forked from a
        process with data does, though all of it would be free if the tree ended. Proportional shares
        add up to it, but also hold a share of the template's pages, which must not count: that part
        is subtracted as it was seen when the tree was one process, spread over the members of now.

        Args:
            memory: the member.
            forked_members: members that may still have the inherited pages: forked, no exec since.
        """
        mappers = self.mappers + max(0, forked_members - 1)
        outside = min(self.anonymous_bytes, memory.shared_anonymous_bytes) / mappers
        return max(0, memory.shared_anonymous_pss_bytes - int(outside))


def read_exact(pid: int) -> ExactMemory:
    """Measure a process exactly.

    Raises:
        OSError: when it is gone, is a zombie, or may not be looked into (``EACCES``).
    """
    fields = parse_kilobytes(read_all(f"/proc/{pid}/smaps_rollup"))
    if b"Rss" not in fields:
        raise ProcessLookupError(f"process {pid} has no memory any more")
    anonymous_bytes = fields.get(b"Anonymous", 0)
    if _sum_is_enough(fields):
        private_bytes = min(fields.get(b"Private_Dirty", 0), anonymous_bytes)
    else:
        private_bytes = private_anonymous_bytes(read_all(f"/proc/{pid}/smaps"))
    return ExactMemory(
        private_bytes=private_bytes + fields.get(b"Private_Hugetlb", 0),
        shared_anonymous_bytes=anonymous_bytes - private_bytes,
        # Pss_Anon came with Linux 5.4; without it such pages are left out.
        shared_anonymous_pss_bytes=max(0, fields.get(b"Pss_Anon", 0) - private_bytes),
        pss_bytes=fields.get(b"Pss", 0),
        rss_bytes=fields[b"Rss"],
        swap_bytes=fields.get(b"SwapPss", fields.get(b"Swap", 0)),
    )


def _sum_is_enough(fields: dict[bytes, int]) -> bool:
    """Tell whether the dirty private pages of the whole process are its private anonymous pages.

    They are when hardly any dirty page belongs to a file (Pss_Dirty, since Linux 6.0, is then Pss_Anon)
    and no page was swapped, which is the one way for an anonymous page to be clean.
    """
    if b"Pss_Dirty" not in fields or fields.get(b"Swap", 0):
        return False
    return fields[b"Pss_Dirty"] - fields.get(b"Pss_Anon", 0) <= _SLACK_BYTES


def private_anonymous_bytes(smaps: bytes) -> int:
    """Add up the private anonymous pages of each mapping of /proc/PID/smaps.

    In a mapping of a file, clean private pages are the file's own; dirty ones are copies made on
    write as far as the mapping has anonymous pages at all.
    """
    total, has_file, clean, dirty, anonymous = 0, False, 0, 0, 0
    for line in smaps.splitlines():
        fields = line.split()
        if not fields[0].endswith(b":"):
            total += _of_mapping(has_file, clean, dirty, anonymous)
            has_file, clean, dirty, anonymous = fields[4] != b"0", 0, 0, 0
        elif fields[0] == b"Private_Clean:":
            clean = int(fields[1]) * 1024
        elif fields[0] == b"Private_Dirty:":
            dirty = int(fields[1]) * 1024
        elif fields[0] == b"Anonymous:":
            anonymous = int(fields[1]) * 1024
    return total + _of_mapping(has_file, clean, dirty, anonymous)


def _of_mapping(has_file: bool, clean: int, dirty: int, anonymous: int) -> int:
    return min(dirty if has_file else clean + dirty, anonymous)
