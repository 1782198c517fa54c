"""``select_features`` for a data frame: what autofeat's function of that name takes and gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from memguard_integrations.autofeat.engine.selection.select import Progress, select

__all__ = ["FrameColumns", "select_features"]


class FrameColumns:
    """The columns of a data frame, as they are; numbers of any type."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame
        # Looking a column up costs pandas more than reading a block of it; views cost nothing to hold.
        plain = all(isinstance(dtype, np.dtype) for dtype in frame.dtypes)
        self.views = [frame.iloc[:, index].to_numpy() for index in range(frame.shape[1])] if plain else None

    @property
    def n_rows(self) -> int:
        """Rows of the frame."""
        return len(self.frame)

    def __len__(self) -> int:
        return self.frame.shape[1]

    def column(self, index: int) -> NDArray[Any]:
        """Return one column, shape (n_rows,); a view where pandas has one."""
        return np.asarray(self.frame.iloc[:, index] if self.views is None else self.views[index])

    def expect(self, indices: Sequence[int], start: int, stop: int) -> None:
        """Do nothing: they are in memory."""

    def let_go_of_pages(self) -> None:
        """Do nothing: they stay in memory."""


def select_features(  # noqa: PLR0917 - autofeat's order of arguments
    df: pd.DataFrame,
    target: ArrayLike,
    featsel_runs: int = 5,
    keep: Sequence[Any] | None = None,
    problem_type: str = "regression",
    n_jobs: int = 1,
    verbose: int = 0,
    *,
    memory_bytes: int | None = None,
    on_progress: Progress | None = None,
    on_step: Callable[[], None] | None = None,
) -> list[Any]:
    """Select predictive features, as autofeat's function of the same name does.

    Args:
        df: Numbers, shape (rows, columns); training rows only, or what is chosen is overfitted.
        target: Shape (rows,): values, or classes for classification.
        featsel_runs: Runs on random samples of the rows.
        keep: Columns that are kept no matter what.
        problem_type: "regression" or "classification".
        n_jobs: Above 1, how many threads may work at once; see ``select``.
        verbose: Above 0, progress is logged.
        memory_bytes: Working memory beside the frame; ``None`` is 256 MiB.
        on_progress: Told the phase and the run or split at hand.
        on_step: Called between bounded steps.

    Returns:
        The names of the chosen columns.

    Raises:
        ValueError: As ``select``.
    """
    return select(
        FrameColumns(df),
        list(df.columns),
        target,
        runs=featsel_runs,
        keep=keep,
        problem_type=problem_type,
        n_jobs=n_jobs,
        verbose=verbose,
        memory_bytes=memory_bytes,
        on_progress=on_progress,
        on_step=on_step,
    )
