"""Settings: one table says what can be set, how it is read, what it means and where it may be set.

Comes in: flags, ``MEMGUARD_*`` variables, a file. Goes out: typed, frozen `Settings` that know where each
value came from. This room does not look at the machine: a size that is a share of the capacity stays a
share. Read ``table.py`` first.
"""

from memguard.config.kinds import FenceChoice, LedgerChoice, LogFormat, LogLevel, Redaction, Switch
from memguard.config.load import CONFIG_VARIABLE, describe_unknown, load_settings, unknown_environment
from memguard.config.table import SETTINGS, Setting, Settings

__all__ = [
    "CONFIG_VARIABLE",
    "SETTINGS",
    "FenceChoice",
    "LedgerChoice",
    "LogFormat",
    "LogLevel",
    "Redaction",
    "Setting",
    "Settings",
    "Switch",
    "describe_unknown",
    "load_settings",
    "unknown_environment",
]
