"""What is known of a table before, and of a model after, a job; plain data that crosses between processes.

No numpy, pandas or pyarrow here: the caller's process holds these records and never needs those libraries.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from memguard.estimate import AutoFeatCounts, Relief
from memguard_integrations.autofeat.arguments import choice, transformation_names, whole_number

__all__ = [
    "DEFAULT_TRANSFORMATIONS",
    "MAX_CLASSES",
    "MAX_LEVELS",
    "MIN_ROWS",
    "ColumnFacts",
    "ColumnKind",
    "EncodedColumn",
    "EncodedPart",
    "Engine",
    "FeaturePlan",
    "FitSettings",
    "FittedModel",
    "Formula",
    "Light",
    "MissingPolicy",
    "Scores",
    "Survey",
    "TableFacts",
    "TableResult",
    "Task",
]

# One-hot columns are combined with every other column, so each level costs as much as a numeric column.
MAX_LEVELS: Final = 20
# A classification target with more classes than this is a number or a name, not a class.
MAX_CLASSES: Final = 200
# AutoFeat cross-validates five-fold on 85 % of the rows; below this a fold has a single row.
MIN_ROWS: Final = 10
DEFAULT_TRANSFORMATIONS: Final = ("1/", "exp", "log", "abs", "sqrt", "^2", "^3")


class Task(StrEnum):
    """What is predicted: a number, or one of a few classes."""

    REGRESSION = "regression"
    CLASSIFICATION = "classification"


class Engine(StrEnum):
    """Whose code engineers and selects.

    ``memguard``: this project's engine, which makes the same columns in less memory, spilling to disk where they do not
    fit. ``stock``: autofeat's own code, which must be installed.
    """

    MEMGUARD = "memguard"
    STOCK = "stock"


class Light(StrEnum):
    """Whether less may be done than was asked for where memory and disk have no room for all of it.

    ``auto``: yes, and told; it is chosen so as to lose the least score. ``never``: it is refused with the figures.
    """

    AUTO = "auto"
    NEVER = "never"


class MissingPolicy(StrEnum):
    """What becomes of rows with a missing or infinite value in a feature.

    ``skip``: not used for fitting or scoring; they stay in the output, their engineered features empty.
    ``median``: filled with the median of the fitted rows; text with its most frequent value.
    ``error``: refused.
    """

    SKIP = "skip"
    MEDIAN = "median"
    ERROR = "error"


class ColumnKind(StrEnum):
    """What a column holds; ``empty`` has no value at all, ``other`` cannot become a number."""

    NUMBER = "number"
    TIME = "time"
    TEXT = "text"
    EMPTY = "empty"
    OTHER = "other"


class EncodedPart(StrEnum):
    """How an encoded column is made from its source."""

    VALUE = "value"
    LEVEL = "level"
    YEAR = "year"
    MONTH = "month"
    DAY = "day"
    DAYOFWEEK = "dayofweek"
    HOUR = "hour"
    ELAPSED = "elapsed_days"


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """What one pass over a column showed.

    Attributes:
        name: as the table spells it.
        kind: see `ColumnKind`.
        missing: values that are missing, NaN included.
        infinite: values that are infinite, also once cut to the 32-bit floats AutoFeat works with.
        lowest: smallest finite value; for times seconds since 1970 (UTC); ``None`` without one.
        highest: largest, likewise.
        whole: numbers only: none has a fraction.
        levels: values and how often each occurs: texts by frequency, whole numbers by size; incomplete where
            there are too many.
        too_many_levels: more different values than were counted, or numbers that are not whole.
        parts: times only: the parts that differ between rows, so that an hour that is always 0 is not used.
        detail: one fact that helps: the first value that is not a number, the type of an ``other`` column.
    """

    name: str
    kind: ColumnKind
    missing: int = 0
    infinite: int = 0
    lowest: float | None = None
    highest: float | None = None
    whole: bool = False
    levels: tuple[tuple[str, int], ...] = ()
    too_many_levels: bool = False
    parts: tuple[EncodedPart, ...] = ()
    detail: str = ""

    @property
    def is_constant(self) -> bool:
        """Whether every value that is there is the same one."""
        if self.kind is ColumnKind.TEXT:
            return len(self.levels) == 1 and not self.too_many_levels
        return self.lowest is not None and self.lowest == self.highest


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What one pass over a table showed.

    Attributes:
        source: the file's path as given, or what stands for it in messages.
        rows: all rows.
        columns: in the table's order.
        fingerprint: size and time of change of the file, ``""`` for a frame; a file that changes between two
            passes is noticed by it.
        notes: what was assumed in reading, one sentence each.
    """

    source: str
    rows: int
    columns: tuple[ColumnFacts, ...]
    fingerprint: str = ""
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> ColumnFacts:
        """Return one column's facts."""
        return next(column for column in self.columns if column.name == name)


@dataclass(frozen=True, slots=True)
class EncodedColumn:
    """One numeric column as AutoFeat sees it.

    Attributes:
        name: a name that sympy can take, unique in the plan.
        source: the table's column.
        part: how it is made.
        level: the value that counts as 1, for ``LEVEL``.
        origin_s: seconds since 1970 that count as day 0, for ``ELAPSED``.
    """

    name: str
    source: str
    part: EncodedPart = EncodedPart.VALUE
    level: str | None = None
    origin_s: float = 0.0


@dataclass(frozen=True, slots=True)
class FeaturePlan:
    """How a table becomes the numbers AutoFeat works on; fixed before the fit, the same for every batch.

    Attributes:
        task: what is predicted.
        target: the target's column; ``""`` where the target is given beside the table.
        classes: labels in the order of their codes; empty for regression.
        columns: the encoded columns, in order.
        kinds: kind of each source column.
        levels: for each text column the values it may have, most frequent first.
        missing: what becomes of missing values.
        warnings: what was left out, renamed or assumed, one sentence each.
    """

    task: Task
    target: str
    classes: tuple[str, ...]
    columns: tuple[EncodedColumn, ...]
    kinds: tuple[tuple[str, ColumnKind], ...]
    levels: tuple[tuple[str, tuple[str, ...]], ...]
    missing: MissingPolicy
    warnings: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The encoded columns' names, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def sources(self) -> tuple[str, ...]:
        """The table's columns that are used, each once, in order."""
        return tuple(name for name, _ in self.kinds)


@dataclass(frozen=True, slots=True)
class FitSettings:
    """What AutoFeat is told.

    Attributes:
        task: what is predicted.
        steps: feature engineering steps, 1 or more.
        selection_runs: AutoFeat's ``featsel_runs``.
        transformations: applied to each column; AutoFeat's names.
        jobs: processes for the selection.
        seed: of the row samples, 0 or more.
        missing: what becomes of missing and infinite values in features.
        engine: whose code does it.
        light: whether less may be done where there is not room for all.
        relief: what is to be left out, as was decided; ``None`` for nothing.
        counts: of the columns, where a pilot counted them.

    Raises:
        DataError: for a value that means nothing.
    """

    task: Task
    steps: int = 2
    selection_runs: int = 5
    transformations: tuple[str, ...] = DEFAULT_TRANSFORMATIONS
    jobs: int = 1
    seed: int = 0
    missing: MissingPolicy = MissingPolicy.SKIP
    engine: Engine = Engine.MEMGUARD
    light: Light = Light.AUTO
    relief: Relief | None = None
    counts: AutoFeatCounts | None = None

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {
            "task": choice(Task, self.task, "task"),
            "missing": choice(MissingPolicy, self.missing, "missing"),
            "engine": choice(Engine, self.engine, "engine"),
            "light": choice(Light, self.light, "light_mode"),
            "transformations": transformation_names(self.transformations),
            "seed": whole_number(self.seed, "seed", least=0),
        }
        for name in ("steps", "selection_runs", "jobs"):
            checked[name] = whole_number(getattr(self, name), name, least=1)
        for name, value in checked.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True)
class Formula:
    """One column of the final model.

    Attributes:
        formula: as sympy writes it; a plain column's name for one that was there before.
        engineered: whether AutoFeat made it.
        coefficient: in the final model; for several classes the largest in size.
        effect: change of the prediction (of the log-odds, for classes) for one standard deviation of the
            column.
    """

    formula: str
    engineered: bool
    coefficient: float
    effect: float


@dataclass(frozen=True, slots=True)
class FittedModel:
    """A fitted AutoFeat model as plain data and bytes.

    Attributes:
        pickled: the model itself, pickled; only a worker opens it.
        plan: how rows were encoded, the encoded columns that were constant in the fitted rows left out.
        fills: what missing values become, one for each encoded column; empty unless the policy is ``median``.
        attributes: AutoFeat's fitted attributes by name, as plain data, formulas as text.
        formulas: the final model's columns, strongest effect first.
        rows: rows fitted on.
        warnings: what the fit noticed.
        classes: the classes as the caller wrote them, numbers as numbers; empty for regression.
        left_out: what light mode left out, one sentence each.
    """

    pickled: bytes
    plan: FeaturePlan
    fills: tuple[float, ...]
    attributes: dict[str, Any]
    formulas: tuple[Formula, ...]
    rows: int
    warnings: tuple[str, ...] = ()
    classes: tuple[Any, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known before a fit is let in.

    Attributes:
        facts: of the columns that were asked for and the target.
        plan: how they become numbers.
        usable_rows: rows that can be fitted on.
        counts: columns that a pilot counted; AutoFeat's own bound where none was run.
        warnings: the plan's, and what was found of the rows.
        scratch_bytes: what is free where the engine puts columns that do not fit; ``None`` where nobody looked.
    """

    facts: TableFacts
    plan: FeaturePlan
    usable_rows: int
    counts: AutoFeatCounts
    warnings: tuple[str, ...]
    scratch_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """How good three models are on the same rows.

    R2 for regression (1 is perfect, 0 as good as the mean), the share of hits for classes; ``None`` where no
    row was scored. AutoFeat's own final model takes columns as they are; where engineered ones differ by many
    powers of ten it can do worse than a plain model, which says nothing about the columns: for that compare
    the other two.

    Attributes:
        rows: rows scored.
        autofeat: AutoFeat's own final model.
        engineered: a linear model on all columns of the output, each scaled to unit variance.
        plain: the same kind of model without the engineered columns.
    """

    rows: int
    autofeat: float | None
    engineered: float | None
    plain: float | None


@dataclass(frozen=True, slots=True)
class TableResult:
    """What the job over a table did.

    Attributes:
        model: the fitted model.
        fitted: scores on the rows it was fitted on.
        held_out: scores on usable rows that it was not fitted on.
        rows: rows written, all of the table's.
        columns: names of the written columns, index columns left out.
        warnings: what was noticed.
    """

    model: FittedModel
    fitted: Scores
    held_out: Scores
    rows: int
    columns: tuple[str, ...]
    warnings: tuple[str, ...]
