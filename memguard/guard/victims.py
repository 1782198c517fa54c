"""Whom to stop when not all can go on. Pure: what is known of the jobs in, an order out.

Comes in: each job's reservation, use, priority and age, and how much must become free. Goes out: whom to stop, in
order, and in one sentence why this one and not another. Who keeps to his reservation is never stopped while another
does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from memguard.ledger.records import Lease
from memguard.units import format_bytes

__all__ = ["Victim", "choose_victims", "in_order_of_blame"]


@dataclass(frozen=True, slots=True)
class Victim:
    """One to stop.

    Attributes:
        lease: whose job it is.
        frees_bytes: what is free when it is gone.
        why: why this one.
    """

    lease: Lease
    frees_bytes: int
    why: str


def in_order_of_blame(leases: Iterable[Lease]) -> list[Lease]:
    """Return those who hold memory, the first to be stopped first.

    By how far they are over their reservation, then the lower priority, then the least work lost: the youngest.
    """

    def blame(lease: Lease) -> tuple[int, int, float, str]:
        return -lease.overrun_bytes, lease.priority, -(lease.granted_at_s or 0.0), lease.lease_id

    return sorted((lease for lease in leases if lease.is_granted), key=blame)


def choose_victims(leases: Iterable[Lease], wanted_bytes: int) -> list[Victim]:
    """Return enough jobs to stop, and no more, for ``wanted_bytes`` to become free.

    While some are over their reservation only they are taken, even if that frees less: the next look will see what
    else must be done.
    """
    order = in_order_of_blame(leases)
    guilty = [lease for lease in order if lease.overrun_bytes > 0]
    chosen, freed = list[Victim](), 0
    for lease in guilty or order:
        if freed >= wanted_bytes:
            break
        if lease.used_bytes > 0:
            chosen.append(Victim(lease, lease.used_bytes, _why(lease, order)))
            freed += lease.used_bytes
    return chosen


def _why(lease: Lease, order: list[Lease]) -> str:
    others = len(order) - 1
    if lease.overrun_bytes > 0:
        over = f"it uses {format_bytes(lease.overrun_bytes)} beyond the {format_bytes(lease.reserved_bytes)} reserved"
        rivals = [each for each in order if each.overrun_bytes > 0 and each is not lease]
        least = "; nobody else does" if others and not rivals else ""
        return f"{over}{least}"
    if not others:
        return "no other job of memguard's runs; what else uses memory is not its own"
    if any(each.priority != lease.priority for each in order):
        return f"all keep to their reservation, and its priority {lease.priority} is the lowest"
    return "all keep to their reservation, and it has run for the shortest time"
