"""The engine's expansion is autofeat's: values, names, order, formulas and units, on real tables and hostile ones."""

from __future__ import annotations

import pandas as pd
import pytest
from sklearn.datasets import load_diabetes, load_iris, load_wine

from tests.support.expansions import ALL_TRANSFORMATIONS, assert_same_expansion

pytest.importorskip("autofeat", reason="stock autofeat is not installed")


def real_tables() -> dict[str, pd.DataFrame]:
    """Return tables of real measurements, scaled and unscaled, with and without two-valued columns."""
    diabetes = load_diabetes(as_frame=True, scaled=False).data
    return {
        "diabetes": diabetes[["bmi", "s5", "sex"]],
        "iris": load_iris(as_frame=True).data,
        "wine": load_wine(as_frame=True).data[["alcohol", "malic_acid", "proline"]],
    }


@pytest.mark.parametrize("name", sorted(real_tables()))
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_real_tables_expand_to_the_same_bits(name: str, steps: int) -> None:
    """Every transformation at once, up to the first combination, gives autofeat's frame."""
    frame = real_tables()[name]
    made = assert_same_expansion(frame, max_steps=steps, transformations=ALL_TRANSFORMATIONS)
    assert steps == 0 or made.shape[1] > frame.shape[1]
