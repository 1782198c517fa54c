"""What an acknowledged add survives, in three degrees."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

__all__ = ["SYNCHRONOUS", "Durability"]


class Durability(StrEnum):
    """What an add that was acknowledged survives; each is slower than the next.

    ``POWER_LOSS``: all of the others, and a power cut: everything is on the disk before it is acknowledged.
    ``PROCESS_DEATH``: kill -9 of any process. A power cut may take the adds of the last seconds, and leave vectors that
    `EpisodeStore.check` finds; the rest stays whole.
    ``ORDERLY_END``: a power cut may damage the store as a whole. For what can be made again.
    """

    POWER_LOSS = "power-loss"
    PROCESS_DEATH = "process-death"
    ORDERLY_END = "orderly-end"


# As SQLite names them.
SYNCHRONOUS: Final = {
    Durability.POWER_LOSS: "full",
    Durability.PROCESS_DEATH: "normal",
    Durability.ORDERLY_END: "off",
}
