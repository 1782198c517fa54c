"""The door to AutoFeat: the names behind it, or what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

import memguard_integrations.autofeat as behind


def test_the_door_gives_every_public_name() -> None:
    """What the package behind offers is what the door offers."""
    door = pytest.importorskip("memguard.integrations.autofeat", reason="stock autofeat is not installed")
    assert door.__all__ == behind.__all__
    for name in door.__all__:
        assert getattr(door, name) is getattr(behind, name)


def test_without_autofeat_the_door_names_the_extra() -> None:
    """Where autofeat is not installed the import fails as an ImportError that names the extra to install."""
    program = (
        "import importlib.util, sys\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'autofeat' else found(name, *rest)\n"
        "try:\n"
        "    import memguard.integrations.autofeat\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("AutoFeat under guard needs autofeat: ")
    assert "pip install 'automl-memguard[autofeat-stock]'" in shown.stdout
