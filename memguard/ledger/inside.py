"""Leases inside a lease: what they share, and how the one around them grows with them. Pure.

A job that says how much it needs has all of it reserved, and those inside share that. One that does not say has a first
part reserved and may grow to its limit: then what those inside are promised beyond that part is promised to the job
around them as well, as long as they have it. So nothing is counted twice, and who is inside waits for memory that there
is not, never for a reservation that could have grown.
"""

from __future__ import annotations

from collections.abc import Iterable

from memguard.ledger.records import Lease, Room

__all__ = ["fitted_bytes", "room_inside"]


def fitted_bytes(parent: Lease, inside: Iterable[Lease]) -> int:
    """Return what is to be promised to a lease: what it asked for itself, or if more what those inside it hold."""
    within = sum(each.reserved_bytes for each in inside if each.is_granted)
    return max(parent.own_bytes, min(parent.limit_bytes, within))


def room_inside(parent: Lease, inside: Iterable[Lease], growable_bytes: int) -> Room:
    """Return what those inside a lease share.

    What the lease uses itself is not taken off: who is inside waits for those beside him, and not for it. What both
    together use beyond the promise is an overrun of the lease, which grows for itself then.

    Args:
        parent: the lease around them, with what is promised to it now.
        inside: those who draw on it.
        growable_bytes: by how much it could grow at once.
    """
    limit = max(parent.limit_bytes, parent.reserved_bytes)
    most = min(limit, parent.reserved_bytes + growable_bytes)
    return Room(limit, most - sum(each.used_bytes for each in inside), f"the lease of {parent.name}")
