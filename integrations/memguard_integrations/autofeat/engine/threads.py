"""How many threads the engine works with: what autofeat's ``n_jobs`` comes to where there are no worker processes."""

from __future__ import annotations

from memguard.host.cpus import usable_cpus

__all__ = ["most_threads"]


def most_threads(n_jobs: int | None, usable: int | None = None) -> int:
    """Return how many threads may work at once, >= 1; the result of a fit does not depend on it.

    Args:
        n_jobs: 1 is autofeat's default and tells no wish: as with ``None``, all processors are used. A larger number
            is a bound; a negative one leaves processors out, as scikit-learn has it: all for -1, all but one for -2.
        usable: how many processors there are; ``None`` for those that this process can have.

    Raises:
        ValueError: it is 0.
    """
    usable = usable_cpus() if usable is None else usable
    if n_jobs is None or n_jobs == 1:
        return usable
    if n_jobs == 0:
        raise ValueError("n_jobs == 0 has no meaning: give how many threads may work at once, or -1 for all")
    return max(1, min(usable, n_jobs if n_jobs > 0 else usable + 1 + n_jobs))
