"""What the ledger writes down: who asked for memory, who has it, what the machine can give. Frozen, without effects."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from memguard.host.readings import ProcessIdentity

__all__ = ["LEASE_VARIABLE", "POOL_PREFIX", "Action", "Bound", "Lease", "Room", "domain_of", "scope_of"]

# Tells a process which lease it is part of: what it reserves itself comes out of that.
LEASE_VARIABLE: Final = "MEMGUARD_JOB_LEASE"
# Ids of leases for caches begin so: they give back when asked, and end with nobody's work.
POOL_PREFIX: Final = "pool-"
_SHARE_MARK: Final = "#"


def domain_of(scope: str, share: str) -> str:
    """Return the domain of a cgroup with a limit (``""`` for none) in which jobs have a share (``""`` for all)."""
    return f"{scope}{_SHARE_MARK}{share}" if share else scope


def scope_of(domain: str) -> str:
    """Return the cgroup that a domain is bound by, ``""`` for none: the whole machine."""
    return domain.partition(_SHARE_MARK)[0]


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
        domain: whose memory it is of, see `Room`.
        limit_bytes: how far it may grow, for itself or for those inside it; 0 for no further than it is.
        own_bytes: what of ``reserved_bytes`` is promised whatever those inside have; see `memguard.ledger.inside`.
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
    domain: str = ""
    limit_bytes: int = 0
    own_bytes: int = 0

    @property
    def is_granted(self) -> bool:
        """Whether it holds memory; else it waits."""
        return self.granted_at_s is not None

    @property
    def is_pool(self) -> bool:
        """Whether it is for a cache, which gives back when it is asked to; else it is for a job."""
        return self.lease_id.startswith(POOL_PREFIX)

    @property
    def outstanding_bytes(self) -> int:
        """What is promised and not yet used: the use itself is part of every figure of used memory."""
        return max(0, self.reserved_bytes - self.used_bytes)

    @property
    def inside_bytes(self) -> int:
        """What is used of the promise."""
        return min(self.used_bytes, self.reserved_bytes)

    @property
    def overrun_bytes(self) -> int:
        """What is used beyond the promise."""
        return max(0, self.used_bytes - self.reserved_bytes)

    @property
    def held_bytes(self) -> int:
        """What would be free if it ended now: what it uses, or all that is promised to it."""
        return max(self.reserved_bytes, self.used_bytes)


@dataclass(frozen=True, slots=True)
class Bound:
    """One limit that holds for a domain: the machine's, or that of a cgroup around it.

    Attributes:
        scope: the cgroup's directory; ``""`` for the whole machine.
        available_bytes: what is free below it, the reserve left out.
    """

    scope: str
    available_bytes: int

    def covers(self, domain: str) -> bool:
        """Whether what a lease of a domain uses counts against it."""
        scope = scope_of(domain)
        return not self.scope or scope == self.scope or scope.startswith(f"{self.scope}/")


@dataclass(frozen=True, slots=True)
class Room:
    """What leases of one pool may share: the memory of a domain, or that of a lease around them.

    A domain is all that shares the same limits: the innermost cgroup with a limit, and the share given to jobs there.
    Processes of different domains share a ledger, and each decides for its own; what the others were promised counts
    against the limits that hold for both.

    Attributes:
        capacity_bytes: all of it, the reserve left out.
        available_bytes: what nobody uses now, the reserve left out; negative when the reserve is in use.
        limited_by: which bound that is, for messages.
        share_bytes: what jobs may use together at most, whatever else is free; ``None`` for no such bound.
        domain: which one it is; ``""`` for a machine without limits but its own.
        bounds: the limits one by one, where other domains may count against them.
        is_closed: whether nothing is promised at the moment, whatever is free: memory is short.
        spare_bytes: the part of the reserve that one who would be alone may be promised as well.
        around: the rooms of the domains around this one, as they are seen from here, the outermost first.
    """

    capacity_bytes: int
    available_bytes: int
    limited_by: str
    share_bytes: int | None = None
    domain: str = ""
    bounds: tuple[Bound, ...] = field(default=())
    is_closed: bool = False
    spare_bytes: int = 0
    around: tuple[Room, ...] = field(default=())

    def of_domain(self, domain: str) -> Room | None:
        """Return the room of this domain or of one around it; ``None`` for one that cannot be seen from here."""
        return next((each for each in (self, *self.around) if each.domain == domain), None)

    def with_share(self, share_bytes: int, name: str) -> Room:
        """Return the room of which jobs may use a share together."""
        limited_by = name if share_bytes < self.capacity_bytes else self.limited_by
        capacity = min(self.capacity_bytes, share_bytes)
        return replace(self, capacity_bytes=capacity, limited_by=limited_by, share_bytes=share_bytes)

    def beside(self, used_bytes: int) -> Room:
        """Return the room as it is when jobs use so much of their share."""
        if self.share_bytes is None:
            return self
        return replace(self, available_bytes=min(self.available_bytes, self.share_bytes - used_bytes))

    def beside_others(self, leases: Iterable[Lease]) -> Room:
        """Return the room as it is when leases of other domains hold what was promised to them."""
        others = [each for each in leases if each.is_granted and each.domain != self.domain]
        if not others:
            return self
        left = (
            bound.available_bytes
            - sum(each.outstanding_bytes for each in others if bound.covers(each.domain))
            for bound in self.bounds
        )
        return replace(self, available_bytes=min((self.available_bytes, *left)), spare_bytes=0)


@dataclass(frozen=True, slots=True)
class Action:
    """What the sentinel did to a job, and what came of it.

    Attributes:
        lease_id: whose job it was.
        name: of the job.
        rung: which step it was: the name of a `memguard.ledger.board.Ask`, or ``thawed``.
        why: why now, and why this one.
        used_bytes: what the job used then.
        reserved_bytes: what was promised to it then.
        freed_bytes: by how much less it used a while later; ``None`` while that is not known.
        at_s: when, in seconds since boot.
        wall_time_s: when, in seconds since the epoch, for people.
        action_id: counts up; 0 before it is written down.
    """

    lease_id: str
    name: str
    rung: str
    why: str
    used_bytes: int
    reserved_bytes: int
    freed_bytes: int | None
    at_s: float
    wall_time_s: float
    action_id: int = 0
