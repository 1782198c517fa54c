"""Two calls for people in a hurry: how is memory, and give back what can be given."""

from __future__ import annotations

from memguard.cleanup import CleanupManager, CleanupReport
from memguard.config import load_settings
from memguard.host import MachineReading
from memguard.jobs import machine_for
from memguard.manager import open_managers

__all__ = ["emergency_memory_cleanup", "get_memory_status"]


def get_memory_status() -> MachineReading:
    """Read what memory there is: capacity, which limit sets it, what is used and what can still be taken."""
    return machine_for(load_settings())


def emergency_memory_cleanup() -> tuple[CleanupReport, ...]:
    """Free what this process can free at once: what sheds, emergency handlers, one garbage collection.

    Caches and pools of the process (`register_sheddable`) are asked first, the largest holder first.

    Returns:
        A report for each open manager that is in no other one, with private memory measured before and after: what is
        inside a manager, its blocks and further managers, is done with it and before it. One report of a bare
        collection where no manager is open.
    """
    cleanups = [each.cleanup for each in open_managers() if not each.cleanup.is_closed]
    outermost = [each for each in cleanups if not _is_inside_another(each)]
    return tuple(each.run_emergency("asked for") for each in outermost or [CleanupManager()])


def _is_inside_another(cleanup: CleanupManager) -> bool:
    """Whether it is reached through an open one around it."""
    outer = cleanup.enclosing
    while outer is not None and outer.is_closed:
        outer = outer.enclosing
    return outer is not None
