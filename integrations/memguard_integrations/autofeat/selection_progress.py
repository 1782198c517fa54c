"""How far autofeat's selection is: it says which run it is in, and here the paths computed in a run are counted.

A run fits a model four times or more (all columns, the noise filter, the other columns in splits, the noise filter
again), each on five folds, one path of coefficients for each. The first five take most of the time, so this is a share
of steps and not of time; a run with more splits than one waits at its last step. Runs inside the worker.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import sklearn.linear_model._least_angle as lars
import sklearn.linear_model._logistic as logistic

from memguard_integrations.autofeat.progress import Progress

__all__ = ["SelectionProgress"]

_PATHS_OF_A_RUN: Final = 4 * 5
# scikit-learn's own functions for one path, looked up by name at each call.
_PATH_FUNCTIONS: Final = ((lars, "_lars_path_residues"), (logistic, "_log_reg_scoring_path"))


class SelectionProgress:
    """Turns runs and paths into a share done, which only grows."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._run = self._runs = self._paths = 0

    def begin_run(self, run: int, runs: int) -> None:
        """Note that a run begins, the first being 1."""
        self._run, self._runs, self._paths = run, runs, 0
        self._tell()

    def end(self) -> None:
        """Note that what follows is no selection any more."""
        self._runs = 0

    def _tell(self) -> None:
        if self._runs:
            # The last step of a run is told by the next run's begin.
            paths = min(self._paths, _PATHS_OF_A_RUN - 1)
            self._progress.fraction((self._run - 1 + paths / _PATHS_OF_A_RUN) / self._runs)

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Have scikit-learn's paths counted, for the length of a ``with`` block; what they compute stays the same."""
        stock = [(vars(module), name, vars(module).get(name)) for module, name in _PATH_FUNCTIONS]
        known = [(names, name, function) for names, name, function in stock if function is not None]
        for names, name, function in known:
            names[name] = self._counting(function)
        try:
            yield
        finally:
            for names, name, function in known:
                names[name] = function

    def _counting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def path(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            self._paths += 1
            self._tell()
            return result

        return path
