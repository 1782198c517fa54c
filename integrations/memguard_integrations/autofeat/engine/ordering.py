"""The order of sets, which stock autofeat permutes: real where it is fixed, that of insertion where it is not.

autofeat draws random permutations of ``list(set(...))``. The order of a set of strings follows their hashes, and
these change from process to process unless ``PYTHONHASHSEED`` is a number. Where it is one, the engine takes the
order of real sets, built by the same operations as autofeat's, and so chooses as autofeat does with the same
seed. Where it is not, no order would be autofeat's anyway, and the order of insertion makes results repeatable.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import TypeVar

__all__ = ["hash_seed_is_fixed", "listed"]

T = TypeVar("T")


def hash_seed_is_fixed(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether strings hash alike in every process that has this environment."""
    return environ.get("PYTHONHASHSEED", "").isdecimal()


def listed(
    members: AbstractSet[T], inserted: Iterable[T], environ: Mapping[str, str] = os.environ
) -> list[T]:
    """List a set in its own order where the hash seed is fixed, else in the order of insertion.

    Args:
        members: The set, built by the same operations as the one whose order is to be met: two equal sets can
            differ in order when they grew differently.
        inserted: All members, in the order in which they came in; it may hold more, and some twice.
        environ: The environment that may fix the hash seed.

    Returns:
        Every member once.
    """
    if hash_seed_is_fixed(environ):
        return list(members)
    return [member for member in dict.fromkeys(inserted) if member in members]
