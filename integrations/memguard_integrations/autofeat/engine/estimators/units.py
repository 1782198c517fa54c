"""Units and the pi theorem: texts to pint's quantities, dimensionless products, and the names autofeat gives them.

Only this module imports pint, and only while a model with ``units`` is fitted: what ``transform`` needs of it is
kept as names and exponents.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from memguard.errors import DataError, MissingExtra

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["PiTerm", "parse_units", "pi_terms"]

_log: Final = logging.getLogger("memguard.autofeat")


@dataclass(frozen=True, slots=True)
class PiTerm:
    """A product of powers of columns that has no dimension.

    Attributes:
        name: of its column, such as ``PT1_x2*x3/x1**2``.
        powers: columns in the order of their names, each with its exponent.
    """

    name: str
    powers: tuple[tuple[str, float], ...]

    def values(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Return the product for each row, shape (n_rows,); nan where one of its columns is."""
        with np.errstate(all="ignore"):
            (first, exponent), *others = self.powers
            product = np.asarray(frame[first].to_numpy(dtype=np.float64) ** exponent)
            for column, exponent in others:
                product *= frame[column].to_numpy(dtype=np.float64) ** exponent
        product[frame[[column for column, _ in self.powers]].isna().any(axis=1).to_numpy()] = np.nan
        return product


def parse_units(units: Mapping[str, str], columns: Sequence[str]) -> dict[str, Any]:
    """Return a pint quantity of magnitude 1 for each column; without a unit it has no dimension.

    Args:
        units: pint's names of units by column; one that pint does not know is logged and counts as none.
        columns: which columns are to have one.

    Raises:
        MissingExtra: pint is not installed.
        DataError: a unit is no text.
    """
    pint = _pint()
    registry = pint.UnitRegistry(auto_reduce_dimensions=True, autoconvert_offset_to_baseunit=True)
    return {column: _quantity(registry, column, units.get(column, "")) for column in columns}


def _pint() -> Any:
    if find_spec("pint") is None:
        raise MissingExtra(
            "units need pint: pip install 'automl-memguard[autofeat]', or leave `units` out", extra="autofeat"
        )
    import pint  # noqa: PLC0415 - only who gives units pays for it

    return pint


def _quantity(registry: Any, column: str, unit: object) -> Any:
    if not isinstance(unit, str):
        raise DataError(f"has a unit that is no text: {unit!r}", subject=column, remedy="write it as 'm/sec'")
    try:
        parsed = registry.parse_expression(unit)
    except _pint().UndefinedUnitError:
        _log.warning("the unit %r of the column %r is not known to pint and counts as none", unit, column)
        parsed = registry.parse_expression("")
    # A factor in the text, as in "5 m", does not count: the units are compared and not the magnitudes.
    return registry.Quantity(1.0, getattr(parsed, "units", registry.dimensionless))


def pi_terms(quantities: Mapping[str, Any]) -> tuple[PiTerm, ...]:
    """Return the products of powers without a dimension, as pint's pi theorem finds them.

    Args:
        quantities: what :func:`parse_units` gave for the columns.
    """
    with_dimension = {column: each for column, each in quantities.items() if not each.dimensionless}
    if not with_dimension:
        return ()
    registry = next(iter(with_dimension.values()))._REGISTRY
    found = registry.pi_theorem(with_dimension)
    return tuple(
        PiTerm(f"PT{number}_{_product(term.items())}", tuple(sorted(term.items())))
        for number, term in enumerate(found, 1)
    )


def _product(powers: Iterable[tuple[str, float]]) -> str:
    """Write a product as pint's formatter did until 0.23, without blanks: ``a*b**2/c**3/d``."""
    ordered = sorted(powers)
    above = [_power(name, exponent) for name, exponent in ordered if exponent > 0]
    below = [_power(name, -exponent) for name, exponent in ordered if exponent < 0]
    return "/".join(["*".join(above) or "1", *below]).replace(" ", "")


def _power(name: str, exponent: float) -> str:
    return name if exponent == 1 else f"{name}**{exponent:n}"
