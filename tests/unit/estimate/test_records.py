"""The record of a prediction."""

from __future__ import annotations

import pytest

from memguard.estimate import Estimate


def test_an_estimate_fits_by_its_high_figure() -> None:
    """Admission goes by the figure that is rarely exceeded, not by the best guess."""
    estimate = Estimate(10, 20, 30, ("because",))
    assert estimate.fits(30)
    assert not estimate.fits(29)


@pytest.mark.parametrize("figures", [(20, 10, 30), (10, 40, 30), (-1, 10, 30)])
def test_figures_that_do_not_ascend_are_refused(figures: tuple[int, int, int]) -> None:
    """Low, expected and high always ascend from zero."""
    with pytest.raises(ValueError, match="ascend"):
        Estimate(*figures, ("because",))


def test_an_estimate_reads_as_two_figures() -> None:
    """People see the expectation and the bound, in units."""
    assert str(Estimate(0, 2**30, 2**31, ())) == "1 GiB expected, 2 GiB at most"
