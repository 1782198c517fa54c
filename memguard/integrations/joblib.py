"""The door to joblib and loky: workers that leak are replaced. Needs neither until a worker of theirs runs."""

from __future__ import annotations

from memguard_integrations.recycling.loky import LeakRecycling

__all__ = ["LeakRecycling"]
