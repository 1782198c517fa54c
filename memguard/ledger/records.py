"""What the ledger writes down: who asked for memory, who has it, what the machine can give. Frozen, without effects."""

from __future__ import annotations

from dataclasses import dataclass

from memguard.host.readings import ProcessIdentity

__all__ = ["Lease", "Room"]


@dataclass(frozen=True, slots=True)
class Lease:
    """A promise of memory to one job, or the wish for one.

    Attributes:
        lease_id: unique on this machine.
        owner: the process whose proven death ends the lease.
        name: of the job, for messages.
        reserved_bytes: how much is promised or wished for.
        used_bytes: what the job's tree was last seen to use.
        priority: higher goes first; 0 is usual.
        asked_at_s: when it was asked for, in seconds since boot.
        granted_at_s: when it was granted, in seconds since boot; ``None`` while it waits.
        parent_id: the lease whose memory it draws on, ``""`` for the machine's.
        slot: where its figures stand on the board.
        token: what says that the figures there are this lease's.
    """

    lease_id: str
    owner: ProcessIdentity
    name: str
    reserved_bytes: int
    used_bytes: int
    priority: int
    asked_at_s: float
    granted_at_s: float | None
    parent_id: str
    slot: int
    token: int

    @property
    def is_granted(self) -> bool:
        """Whether it holds memory; else it waits."""
        return self.granted_at_s is not None

    @property
    def outstanding_bytes(self) -> int:
        """What is promised and not yet used: the use itself is part of every figure of used memory."""
        return max(0, self.reserved_bytes - self.used_bytes)

    @property
    def overrun_bytes(self) -> int:
        """What is used beyond the promise."""
        return max(0, self.used_bytes - self.reserved_bytes)

    @property
    def held_bytes(self) -> int:
        """What would be free if it ended now: what it uses, or all that is promised to it."""
        return max(self.reserved_bytes, self.used_bytes)


@dataclass(frozen=True, slots=True)
class Room:
    """What leases of one pool may share: the machine's memory, or that of a lease around them.

    Attributes:
        capacity_bytes: all of it, the reserve left out.
        available_bytes: what nobody uses now, the reserve left out; negative when the reserve is in use.
        limited_by: which bound that is, for messages.
        share_bytes: what jobs may use together at most, whatever else is free; ``None`` for no such bound.
    """

    capacity_bytes: int
    available_bytes: int
    limited_by: str
    share_bytes: int | None = None

    def beside(self, used_bytes: int) -> Room:
        """Return the room as it is when jobs use so much of their share."""
        if self.share_bytes is None:
            return self
        available = min(self.available_bytes, self.share_bytes - used_bytes)
        return Room(self.capacity_bytes, available, self.limited_by, self.share_bytes)
