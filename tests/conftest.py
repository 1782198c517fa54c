"""What every test may rely on: where the project is, and an environment without settings of memguard."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

# At import, not in a fixture: helpers that start processes read the environment at any scope.
for _name in [name for name in os.environ if name.startswith("MEMGUARD_")]:
    del os.environ[_name]

# No test depends on how fast the machine is at this moment.
hypothesis.settings.register_profile("memguard", deadline=None)
hypothesis.settings.load_profile("memguard")


@pytest.fixture(scope="session")
def project_root() -> Path:
    return Path(__file__).resolve().parent.parent
