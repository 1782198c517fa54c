"""The one table of settings, and the record it is read into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from memguard.config.kinds import (
    FRACTION,
    PATH,
    SIZE,
    STORE,
    FenceChoice,
    Kind,
    LedgerChoice,
    LogFormat,
    LogLevel,
    Redaction,
    Scalar,
    Switch,
    choice,
    duration,
    fraction,
    whole_number,
)
from memguard.units import Size

__all__ = ["ENVIRONMENT_PREFIX", "SETTINGS", "UNSET", "Setting", "Settings"]

ENVIRONMENT_PREFIX: Final = "MEMGUARD_"
UNSET: Final = "unset"


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of the table.

    Attributes:
        name: as people type it in a file; the flag and the variable follow from it.
        attribute: its name in `Settings`, with the unit.
        kind: how its values are read.
        default: the default as text.
        help: what it does, in one or two sentences.
        optional: whether ``unset`` is a value.
    """

    name: str
    attribute: str
    kind: Kind
    default: str
    help: str
    optional: bool = False

    @property
    def flag(self) -> str:
        """The option of the command line, ``--sample-interval-min``."""
        return "--" + self.name.replace("_", "-")

    @property
    def environment(self) -> str:
        """The environment variable, ``MEMGUARD_SAMPLE_INTERVAL_MIN``."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def forms(self) -> str:
        """The accepted forms, ``unset`` among them where it is one."""
        return f"{self.kind.forms}; or {UNSET}" if self.optional else self.kind.forms

    def parse(self, value: object) -> Any:
        """Return the value of a text, a number, a `Size` or a path.

        Raises:
            ValueError: when it is none of `forms`.
        """
        text = _as_text(value)
        return None if self.optional and text.strip() == UNSET else self.kind.parse(text)

    def show(self, value: Any) -> str:
        """Return a text that `parse` reads as ``value``."""
        return UNSET if value is None else self.kind.show(value)

    def plain(self, value: Any) -> tuple[Scalar, str]:
        """Return ``value`` for JSON and what it counts; ``None`` and ``""`` where it is unset."""
        return (None, "") if value is None else self.kind.plain(value)


def _as_text(value: object) -> str:
    if isinstance(value, Size):
        return value.text
    if isinstance(value, str | Path) or (isinstance(value, int | float) and not isinstance(value, bool)):
        return str(value)
    raise ValueError(f"a {type(value).__name__} is neither a text nor a number")


SETTINGS: Final = (
    Setting(
        "capacity",
        "capacity",
        SIZE,
        UNSET,
        "The share of the machine that all guarded jobs together may use; the limits of the machine and "
        "of its cgroups hold on top. Unset: those limits alone.",
        optional=True,
    ),
    Setting("memory", "memory", SIZE, "80%", "The budget of a job that names none."),
    Setting(
        "warn_at",
        "warn_at_fraction",
        FRACTION,
        "80%",
        "The part of its budget at which a job is warned of, before the bound is hit.",
    ),
    Setting(
        "timeout",
        "timeout_s",
        duration(0.001),
        UNSET,
        "The time after which a job is stopped. Unset: never.",
        optional=True,
    ),
    Setting(
        "grace",
        "grace_s",
        duration(0),
        "5s",
        "The time between the signal that asks a job to stop and SIGKILL.",
    ),
    Setting(
        "sample_interval_min",
        "sample_interval_min_s",
        duration(0.001),
        "10ms",
        "The shortest time between two readings of a job's memory, used when its budget fills fast.",
    ),
    Setting(
        "sample_interval_max",
        "sample_interval_max_s",
        duration(0.001),
        "250ms",
        "The longest time between two readings of a job's memory, used when its budget is far off.",
    ),
    Setting(
        "fence",
        "fence",
        choice(FenceChoice),
        "auto",
        "What holds a job to its budget besides the watching supervisor: a cgroup, RLIMIT_DATA, nothing, "
        "or (auto) the strongest that this machine offers.",
    ),
    Setting(
        "oom_score_adj",
        "oom_score_adj",
        whole_number(0, 1000),
        "500",
        "How much sooner the kernel's out-of-memory killer takes a job than other processes.",
    ),
    Setting(
        "cleanup_interval",
        "cleanup_interval_s",
        duration(1),
        "300s",
        "The time between two scheduled cleanups.",
    ),
    Setting(
        "cleanup_deadline",
        "cleanup_deadline_s",
        duration(0.001),
        "5s",
        "The time a cleanup handler has before it counts as failed.",
    ),
    Setting(
        "log_format",
        "log_format",
        choice(LogFormat),
        "auto",
        "How the command line writes its log: text, JSON lines, or (auto) text, with colour on a terminal. With json "
        "whatever else it says on stderr is a JSON line too.",
    ),
    Setting(
        "log_level",
        "log_level",
        choice(LogLevel),
        "warning",
        "The least serious message that the command line logs. Where neither this nor log_format is set anywhere, "
        "it logs none but errors of memguard's own: what matters is said in words.",
    ),
    Setting(
        "redact",
        "redact",
        choice(Redaction),
        "auto",
        "Which recorded arguments and variables lose their value in reports: those that look like secrets "
        "(auto), all, or none.",
    ),
    Setting(
        "report_dir",
        "report_dir",
        PATH,
        UNSET,
        "The directory in which `memguard run` and `memguard autofeat` keep the report of a job for which no --report "
        "names a file, as <job id>.json; it is made if it is missing. Unset: reports are written only where asked for.",
        optional=True,
    ),
    Setting(
        "episodes",
        "episodes",
        STORE,
        "auto",
        "The folder of a store of episodes in which every guarded job, and what was done to it while memory was short, "
        "is kept: sizes, shapes, times and outcomes, no value of its data. Forecasts learn from it. auto: "
        "memguard/episodes in $XDG_STATE_HOME, which is ~/.local/state where it is not set, with the newest 20,000; in "
        "a folder that is named all stay. Unset: nothing is kept.",
        optional=True,
    ),
    Setting(
        "forecast",
        "forecast",
        choice(Switch),
        "auto",
        "Whether jobs are sized by what jobs like them used (auto), or only by what their users name (off).",
    ),
    Setting(
        "miss_rate",
        "miss_rate",
        fraction(50),
        "5%",
        "The share of jobs that may use more than was forecast for them. A smaller one reserves more.",
    ),
    Setting(
        "priority",
        "priority",
        whole_number(-100, 100),
        "0",
        "Who waits for memory is served by priority, the higher first; who has waited for long is raised.",
    ),
    Setting(
        "wait",
        "wait_s",
        duration(0),
        UNSET,
        "How long a job waits for memory that others have before it gives up. Unset: until it is free.",
        optional=True,
    ),
    Setting(
        "retries",
        "retries",
        whole_number(0, 100),
        "0",
        "How often a job that ran out of memory is run again from its start, each time with more reserved. Only for "
        "jobs that may be run twice.",
    ),
    Setting(
        "reserve",
        "reserve",
        SIZE,
        "10%",
        "What is kept back of the machine's memory, and of a share that `capacity` gives, when jobs are admitted.",
    ),
    Setting(
        "first_reservation",
        "first_reservation",
        SIZE,
        "25%",
        "What is reserved at first for a job whose memory nobody named; it grows with its use, as far as there is "
        "more.",
    ),
    Setting(
        "ledger",
        "ledger",
        choice(LedgerChoice),
        "auto",
        "Whether jobs share the machine's memory with all other guarded jobs by its ledger, waiting in turn (auto), or "
        "know nothing of each other (off).",
    ),
    Setting(
        "runtime_dir",
        "runtime_dir",
        PATH,
        UNSET,
        "The directory of the ledger; nobody else may write there. Unset: /run/memguard for root, else "
        "/dev/shm/memguard-UID. Processes with different ones know nothing of each other.",
        optional=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What is set, in bytes, seconds and fractions; the table `SETTINGS` says what each one means.

    Attributes:
        origins: setting name to where its value came from: ``"default"``, ``"environment MEMGUARD_X"``,
            a file such as ``"memguard.toml"``, or ``"flag --x"``. Not part of equality.
    """

    capacity: Size | None
    memory: Size
    warn_at_fraction: float
    timeout_s: float | None
    grace_s: float
    sample_interval_min_s: float
    sample_interval_max_s: float
    fence: FenceChoice
    oom_score_adj: int
    cleanup_interval_s: float
    cleanup_deadline_s: float
    log_format: LogFormat
    log_level: LogLevel
    redact: Redaction
    report_dir: Path | None
    episodes: Path | None
    forecast: Switch
    miss_rate: float
    priority: int
    wait_s: float | None
    retries: int
    reserve: Size
    first_reservation: Size
    ledger: LedgerChoice
    runtime_dir: Path | None
    origins: Mapping[str, str] = field(compare=False, repr=False)
