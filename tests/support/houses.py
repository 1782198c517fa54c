"""A small table of houses that the tests of estimators fit on."""

from __future__ import annotations

import numpy as np
import pandas as pd


def houses(rows: int = 120) -> tuple[pd.DataFrame, pd.Series]:
    """Return a table with an index of its own, a name that is no identifier and a category, and a target."""
    draw = np.random.RandomState(2)
    frame = pd.DataFrame(
        {
            "side": draw.uniform(0.5, 3, rows),
            "x 2": draw.normal(size=rows),
            "kind": draw.choice(["a", "b"], rows),
        },
        index=pd.Index(np.arange(500, 500 + rows), name="house"),
    )
    target = (
        4 * frame["side"] ** 2 + frame["x 2"] + 3 * (frame["kind"] == "a") + 0.01 * draw.normal(size=rows)
    )
    return frame, target
