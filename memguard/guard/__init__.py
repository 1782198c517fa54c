"""What to do when memory gets short: how short it is, which step comes next, whom it meets.

Comes in: readings and leases. Goes out: decisions. Carrying them out is the sentinel's. Read ``pressure.py`` first.
"""

from memguard.guard.pressure import Lines, Pressure, PressureGauge, PressureNow
from memguard.guard.victims import Victim, choose_victims, in_order_of_blame

__all__ = [
    "Lines",
    "Pressure",
    "PressureGauge",
    "PressureNow",
    "Victim",
    "choose_victims",
    "in_order_of_blame",
]
