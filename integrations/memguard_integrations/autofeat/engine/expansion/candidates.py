"""Which columns are tried, in autofeat's order: transformations of columns, and combinations of pairs of them.

Comes in: the columns of the last step. Goes out: candidates, one by one, each with its formula; none whose name was
tried before, whose transformation its parent's values do not bear, or whose units do not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import sympy

from memguard_integrations.autofeat.engine import kernels
from memguard_integrations.autofeat.engine.columns import ColumnStore, Floats
from memguard_integrations.autofeat.engine.expansion import symbols
from memguard_integrations.autofeat.engine.expansion.decisions import Moments
from memguard_integrations.autofeat.engine.kernels.operations import COMBINATIONS, OPERATIONS

__all__ = ["Candidate", "Candidates", "Feature", "Units"]

Units = MutableMapping[Any, Any]

_FEW_VALUES: Final = 2


@dataclass(slots=True, eq=False)
class Feature:
    """A column that others can be made from.

    Attributes:
        name: its label in the given frame, or the text of its formula.
        formula: from the given columns.
        store: where its values are.
        index: which column there.
        moments: of its values.
    """

    name: Hashable
    formula: sympy.Expr
    store: ColumnStore
    index: int
    moments: Moments

    @property
    def values(self) -> Floats:
        """Its column, shape (rows,), read-only."""
        return self.store.column(self.index)


@dataclass(slots=True, eq=False)
class Candidate:
    """A column that is tried.

    Attributes:
        name: the text of its formula.
        formula: from the given columns.
        operation: the name of what is done to the parents.
        parents: one or two.
    """

    name: str
    formula: sympy.Expr
    operation: str
    parents: tuple[Feature, ...]


@dataclass(frozen=True, slots=True)
class _Profile:
    """What decides which transformations a column may have; a NaN fails every "all values are"."""

    different: int
    has_nan: bool
    has_zero: bool
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Floats) -> _Profile:
        told = np.empty(5)
        kernels.profile(values, told)
        return cls(int(told[0]), bool(told[1]), bool(told[2]), float(told[3]), float(told[4]))


# Where a transformation is allowed; an empty column never gets here, it has too few values.
_CONDITIONS: Final[dict[str, Callable[[_Profile], bool]]] = {
    "exp": lambda told: not told.has_nan and told.greatest < 10,
    "exp-": lambda told: not told.has_nan and -told.least < 10,
    "log": lambda told: not told.has_nan and told.least >= 0,
    "abs": lambda told: told.least < 0,
    "sqrt": lambda told: not told.has_nan and told.least >= 0,
    "sin": lambda told: True,
    "cos": lambda told: True,
    "2^": lambda told: not told.has_nan and told.greatest < 50,
    "^2": lambda told: not told.has_nan and max(-told.least, told.greatest) < 1_000_000,
    "^3": lambda told: not told.has_nan and max(-told.least, told.greatest) < 10_000,
    "1+": lambda told: True,
    "1-": lambda told: True,
    "1/": lambda told: not told.has_zero,
}

_UNITS_OF: Final[dict[str, Callable[..., Any]]] = {
    "exp": np.exp,
    "exp-": lambda unit: np.exp(-unit),
    "log": np.log,
    "abs": np.abs,
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "2^": np.exp,
    "^2": lambda unit: unit**2,
    "^3": lambda unit: unit**3,
    "1+": lambda unit: 1 + unit,
    "1-": lambda unit: 1 - unit,
    "1/": lambda unit: 1 / unit,
    "x+y": lambda one, two: one + two,
    "x*y": lambda one, two: one * two,
    "x-y": lambda one, two: one - two,
    "y-x": lambda one, two: two - one,
}


class Candidates:
    """The candidates of one expansion; remembers every name that was tried.

    Args:
        labels: names that are taken from the start.
        transformations: names of transformations, in the order in which they are tried.
        units: a quantity for each column, extended in place; empty or ``None`` to let everything be combined.
    """

    def __init__(
        self, labels: Iterable[Hashable], transformations: Sequence[str], units: Units | None
    ) -> None:
        self.transformations = transformations
        self._units = units
        self.tried: set[Hashable] = set(labels)

    def transformed(self, features: Iterable[Feature]) -> Iterator[Candidate]:
        """Yield the transformations of each feature; those of two values or fewer have none.

        Raises:
            KeyError: if a transformation has an unknown name.
        """
        for feature in features:
            told = _Profile.of(feature.values)
            if told.different <= _FEW_VALUES:
                continue
            for operation in self.transformations:
                if _CONDITIONS[operation](told):
                    formula, name = symbols.transform(operation, feature.formula)
                    if self._is_new(name, operation, (feature,)):
                        yield Candidate(name, formula, operation, (feature,))

    def combined(self, pairs: Iterable[tuple[Feature, Feature]], *, is_last: bool) -> Iterator[Candidate]:
        """Yield the combinations of each pair; of the last step only products, since its sums are not kept."""
        operations = ("x*y",) if is_last else COMBINATIONS
        for pair in pairs:
            for operation in operations:
                formula, name = symbols.combine(operation, pair[0].formula, pair[1].formula)
                if self._is_new(name, operation, pair):
                    yield Candidate(name, formula, operation, pair)

    def _is_new(self, name: str, operation: str, parents: tuple[Feature, ...]) -> bool:
        """Note a name as tried; one that its units forbid is not noted, another way may lead to it."""
        if name in self.tried or (self._units and not self._units_fit(self._units, name, operation, parents)):
            return False
        self.tried.add(name)
        return True

    @staticmethod
    def _units_fit(units: Units, name: str, operation: str, parents: tuple[Feature, ...]) -> bool:
        import pint  # noqa: PLC0415 - only who gives units needs it

        try:
            unit = _UNITS_OF[operation](*(units[parent.name] for parent in parents))
        except (pint.DimensionalityError, pint.OffsetUnitCalculusError):
            return False
        units[name] = unit
        # Only the dimension counts; magnitudes would grow without end.
        unit.__dict__["_magnitude"] = 1.0
        return True


assert OPERATIONS.keys() == _UNITS_OF.keys()
