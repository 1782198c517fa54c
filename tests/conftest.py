"""What every test may rely on: where the project is, and an environment without settings of memguard."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import select
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# At import, not in a fixture: helpers that start processes read the environment at any scope.
for _name in [name for name in os.environ if name.startswith("MEMGUARD_")]:
    del os.environ[_name]
# A ledger of their own: jobs of tests wait for no other job of this machine, and none waits for them.
_ledger = tempfile.TemporaryDirectory(prefix="memguard-test-ledger-")
os.environ["MEMGUARD_RUNTIME_DIR"] = _ledger.name
# No test is sized by what ran before it, and what runs here is no past of this user's jobs.
os.environ["MEMGUARD_EPISODES"] = "unset"

# Started by `nohup`, in the background of a shell or by a runner that ignores them, the tests would inherit that, and
# their programs with them.
for _signal in (signal.SIGHUP, signal.SIGQUIT):
    signal.signal(_signal, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test depends on how fast the machine is at this moment, nor on chance; `make stress` looks for new examples.
hypothesis.settings.register_profile("memguard", deadline=None, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None)
hypothesis.settings.load_profile("memguard")


def pytest_collection_finish() -> None:
    """Leave what importing all tests has made out of every later collection: a third of a second for each."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """End the sentinels that outlive the tests by some seconds: they would write to the ledger's folder anew."""
    from tests.support.sentinels import sentinels_of

    for pid in sentinels_of(Path(_ledger.name)):
        with contextlib.suppress(ProcessLookupError):  # ended meanwhile
            watch = os.pidfd_open(pid)
            signal.pidfd_send_signal(watch, signal.SIGKILL)
            select.select([watch], [], [], 30)
            os.close(watch)
    _ledger.cleanup()


@pytest.fixture(autouse=True)
def heap_without_leftovers() -> None:
    """Give back what earlier tests freed: else a test that measures this process may see nothing grow."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@pytest.fixture(scope="module", autouse=True)
def own_pool() -> Iterator[None]:
    """Let go of the engine's pool of blocks, which is the process's: an emergency in another file would ask it too."""
    yield
    engine = sys.modules.get("memguard_integrations.autofeat.engine.columns")
    if engine is not None:
        engine._pool = None


@pytest.fixture(autouse=True)
def own_past() -> None:
    """Forget the jobs that earlier tests ran in this process: else theirs would size those of this one."""
    forecaster = sys.modules.get("memguard.forecasting.forecaster")
    if forecaster is not None:
        forecaster._forecasters.clear()


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """Put back what a command that ran inside this process did to memguard's logger."""
    logger = logging.getLogger("memguard")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.fixture(scope="session")
def project_root() -> Path:
    return Path(__file__).resolve().parent.parent
