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

    Returns:
        A report for each open manager, with private memory measured before and after; one report of a bare
        collection where no manager is open.
    """
    managers = open_managers()
    if not managers:
        return (CleanupManager().run_emergency("asked for"),)
    return tuple(manager.cleanup.run_emergency("asked for") for manager in managers)
