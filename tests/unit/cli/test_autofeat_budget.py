"""What `memguard autofeat` may use where somebody bounds it already."""

from __future__ import annotations

import pytest

from memguard.cli.autofeat_dry_run import budget_of
from memguard.config import load_settings
from memguard.errors import ConfigError
from memguard.units import MIB
from memguard.worker.spec import BUDGET_VARIABLE


def test_the_default_is_what_is_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside a wrapped command or a job it takes that budget, not its own default; more is refused by name."""
    monkeypatch.setenv(BUDGET_VARIABLE, str(200 * MIB))
    settings = load_settings()
    assert budget_of(None, settings) == 200 * MIB
    assert budget_of("150MiB", settings) == 150 * MIB
    with pytest.raises(ConfigError, match=r"300 MiB of 200 MiB \(the budget of the enclosing"):
        budget_of("300MiB", settings)
