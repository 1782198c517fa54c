"""The door to Dask: workers that leak are replaced, or the extra that this needs."""

from __future__ import annotations

from importlib.util import find_spec

from memguard.errors import MissingExtra

if find_spec("distributed") is None:
    raise MissingExtra("Dask's workers need distributed: pip install 'automl-memguard[dask]'", extra="dask")

# After the check that gives a better message.
from memguard_integrations.recycling.dask import TOPIC, LeakPlugin

__all__ = ["TOPIC", "LeakPlugin"]
