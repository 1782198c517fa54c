"""What a sentinel is told when it is started: whose memory it watches, where its ledger is, how long it stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from memguard.units import Size, parse_size

__all__ = ["LINGER_S", "Orders"]

# How long it stays when there are no leases any more: the next job of a series finds it there.
LINGER_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Orders:
    """What a sentinel is to watch.

    Attributes:
        folder: where the ledger is.
        domain: whose memory; see `memguard.ledger.records.Room`.
        capacity: the share of jobs, as in the settings.
        reserve: what is kept back when wishes are granted.
        scope: the cgroup whose limits count, where they are not those of the sentinel's own; see `MachineWatcher`.
        linger_s: how long it stays without leases; ``None`` for ever.
    """

    folder: Path
    domain: str
    capacity: Size | None
    reserve: Size
    scope: str | None = None
    linger_s: float | None = LINGER_S

    def to_json(self) -> dict[str, Any]:
        """Return it for another process."""
        return {
            "folder": str(self.folder),
            "domain": self.domain,
            "capacity": None if self.capacity is None else self.capacity.text,
            "reserve": self.reserve.text,
            "scope": self.scope,
            "linger_s": self.linger_s,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Orders:
        """Return what `to_json` told."""
        capacity = fields["capacity"]
        return cls(
            Path(fields["folder"]),
            fields["domain"],
            None if capacity is None else parse_size(capacity),
            parse_size(fields["reserve"]),
            fields["scope"],
            fields["linger_s"],
        )
