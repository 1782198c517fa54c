"""The door to AutoFeat: the names behind it, or what to install."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import memguard_integrations.autofeat as behind


def test_the_door_gives_every_public_name() -> None:
    """What the package behind offers is what the door offers."""
    pytest.importorskip("autofeat", reason="stock autofeat is not installed")
    door = importlib.import_module("memguard.integrations.autofeat")
    assert door.__all__ == behind.__all__
    for name in door.__all__:
        assert getattr(door, name) is getattr(behind, name)


def shown_without(module: str, statement: str) -> str:
    """Return what a program prints that believes a module is not installed and catches an ImportError."""
    program = (
        "import importlib.util, sys\n"
        "found = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *rest: None if name == {module!r} else found(name, *rest)\n"
        "try:\n"
        f"    {statement}\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_without_autofeat_the_stock_engine_names_the_extra() -> None:
    """Where autofeat is not installed its own engine fails as an ImportError that names the extra to install."""
    statement = (
        "from memguard.integrations.autofeat import AutoFeatProcessor; "
        "AutoFeatProcessor(engine='stock').fit([[1]], [1])"
    )
    shown = shown_without("autofeat", statement)
    assert shown.startswith("the stock engine needs autofeat: ")
    assert "pip install 'automl-memguard[autofeat-stock]'" in shown


def test_without_autofeat_the_engine_is_there() -> None:
    """The engine's estimators need no autofeat."""
    statement = (
        "from memguard.integrations.autofeat import AutoFeatRegressor; print(AutoFeatRegressor.__name__)"
    )
    assert shown_without("autofeat", statement) == "AutoFeatRegressor\n"


def test_without_its_libraries_the_engine_names_the_extra() -> None:
    """Where sympy is not installed importing the door fails as an ImportError that names the extra to install."""
    shown = shown_without("sympy", "import memguard.integrations.autofeat")
    assert shown == "AutoFeat needs sympy: pip install 'automl-memguard[autofeat]'\n"
