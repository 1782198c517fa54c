"""What engineering and selecting need of memory and disk, and whether that can be had. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from memguard.estimate import (
    FORMULAS_BYTES,
    AutoFeatCounts,
    AutoFeatRequest,
    column_bytes,
    copied_bytes,
    selection_share,
    spilled_bytes,
)
from memguard.units import MIB

__all__ = [
    "LEAST_MEMORY_BYTES",
    "LEAST_SELECTION_BYTES",
    "Room",
    "needed_bytes",
    "selection_share",
    "spilled_bytes",
]

# With less than this selection passes over the columns again and again.
LEAST_SELECTION_BYTES: Final = 16 * MIB
# A fit that is to go on with less gets no less than this, if it had as much.
LEAST_MEMORY_BYTES: Final = LEAST_SELECTION_BYTES + FORMULAS_BYTES
# Blocks are larger than what is in them, and others write to the disk too.
_SCRATCH_SHARE: Final = 0.85


@dataclass(frozen=True, slots=True)
class Room:
    """What can be had.

    Attributes:
        memory_bytes: what columns and selection may hold together; ``None`` for no bound.
        scratch_bytes: what is free where columns go that do not fit.
    """

    memory_bytes: int | None
    scratch_bytes: int

    def has(self, request: AutoFeatRequest, counts: AutoFeatCounts) -> bool:
        """Whether a fit can be had in it."""
        if self.memory_bytes is None:
            return True
        spilled = spilled_bytes(request, counts, self.memory_bytes)
        copies = copied_bytes(request, counts)
        return spilled <= self.scratch_bytes * _SCRATCH_SHARE and copies <= self.memory_bytes

    def holds(self, request: AutoFeatRequest, counts: AutoFeatCounts) -> bool:
        """Whether it can be had without the disk, if selection gets the least."""
        if self.memory_bytes is None:
            return True
        rest = max(LEAST_SELECTION_BYTES, copied_bytes(request, counts)) + FORMULAS_BYTES
        return column_bytes(request, counts) + rest <= self.memory_bytes


def needed_bytes(request: AutoFeatRequest, counts: AutoFeatCounts) -> int:
    """Return what a fit needs of memory and disk together."""
    return (
        column_bytes(request, counts)
        + max(LEAST_SELECTION_BYTES, copied_bytes(request, counts))
        + FORMULAS_BYTES
    )
