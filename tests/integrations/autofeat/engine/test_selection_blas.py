"""Sums of products by BLAS, called without the interpreter's lock."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from memguard_integrations.autofeat.engine.selection import blas
from memguard_integrations.autofeat.engine.selection.blas import add_cross, add_own


@pytest.fixture(params=["by address", "by SciPy's functions"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test holds for both ways to call BLAS."""
    if request.param != "by address":
        monkeypatch.setattr(blas, "_dsyrk", None)
        monkeypatch.setattr(blas, "_dgemm", None)
    else:
        assert blas._dsyrk is not None
        assert blas._dgemm is not None


def block(columns: int, rows: int, seed: int = 0) -> NDArray[np.float64]:
    # Whole numbers: their products are exact in any order of summation.
    return np.random.default_rng(seed).integers(-9, 9, (columns, rows)).astype(np.float64)


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (7, 5), (0, 3), (3, 0)])
def test_products_with_itself_are_added_to_the_upper_triangle(shape: tuple[int, int]) -> None:
    """What was there stays, the products come on top, and nothing is written below the diagonal."""
    values = block(*shape)
    sums = np.asfortranarray(np.full((shape[0], shape[0]), 2.0))
    add_own(sums, values)
    assert (np.triu(sums) == np.triu(values @ values.T + 2)).all()
    assert (np.tril(sums, -1) == np.tril(np.full_like(sums, 2.0), -1)).all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 3, 7), (3, 5, 2), (0, 3, 4), (3, 0, 4), (3, 2, 0)])
def test_products_with_others_are_added(shape: tuple[int, int, int]) -> None:
    """What was there stays, and each product comes on top, at its place."""
    left, right = block(shape[0], shape[2]), block(shape[1], shape[2], seed=1)
    sums = np.full((shape[0], shape[1]), 2.0, order="F")
    add_cross(sums, left, right)
    assert (sums == left @ right.T + 2).all()


def test_what_blas_would_take_for_something_else_is_refused() -> None:
    """Another order, type or shape is an error before anything is written."""
    sums, values = np.zeros((2, 2), order="F"), block(2, 3)
    single: object = values.astype(np.float32)
    for others in (values.T, values[:, ::2], np.asfortranarray(values), single, block(3, 3)):
        with pytest.raises(ValueError, match="BLAS takes"):
            add_own(sums, others)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="BLAS takes"):
        add_cross(sums, values, block(2, 4))
    with pytest.raises(ValueError, match="BLAS takes"):
        add_cross(np.zeros((3, 2)), block(3, 3), block(2, 3))
    assert not sums.any()


def test_a_routine_of_other_integers_is_not_called() -> None:
    """Only 32-bit integers and doubles, as many and in the order of the routine, are what it is called with."""
    real = "__pyx_t_5scipy_6linalg_11cython_blas_d *"
    assert blas._takes(f"void (char *, int *, {real})", "cid")
    assert blas._takes("void (char *, int *, double *)", "cid")
    for integer in ("long *", "int64_t *", "unsigned int *", "int"):
        assert not blas._takes(f"void (char *, {integer}, {real})", "cid")
    assert not blas._takes("void (char *, int *)", "cid")
    assert not blas._takes("void (char *, int *, float *)", "cid")
    assert not blas._takes("int (char *, int *, double *)", "cid")
