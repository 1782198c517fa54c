"""What `memguard run` would reserve for a command, why, and whether it is to be had now; nothing is run or reserved.

Comes in: a command, what its user names, the settings. Goes out: an `Outlook`. The store of past jobs, the ledger and
the machine are only read; what cannot be read is said, and the rest is told.
"""

from __future__ import annotations

import enum
import errno
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace

from memguard.cli.command_frame import Naming, command_frame, command_likeness, is_budget_named
from memguard.cli.lease import command_wish
from memguard.cli.overview import Overview, Watch
from memguard.config import LedgerChoice, Settings, Switch
from memguard.forecasting.forecaster import Forecaster
from memguard.forecasting.past import PastJob
from memguard.forecasting.smaller import Smaller, what_would_fit
from memguard.foresight import is_above_budget
from memguard.host import identify
from memguard.ledger.admission import admitted
from memguard.ledger.book import Wish
from memguard.ledger.records import Lease
from memguard.ledger.standing import JobState, free_for, stand
from memguard.worker.compose import JobFrame

__all__ = ["Outlook", "Place", "Verdict", "outlook_of", "place_of"]


class Verdict(enum.StrEnum):
    """Whether a command would have its memory."""

    NOW = "now"
    WAITS = "waits"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Place:
    """Whether what a command would reserve is free.

    Attributes:
        is_free: whether it would start at once.
        free_bytes: what could be promised to it now; ``None`` where nobody counts.
        most_bytes: what there is for jobs in all; ``None`` where nobody counts.
        why: how it stands, in a sentence, with who holds what.
        trouble: what of the ledger could not be read, or ``""``.
    """

    is_free: bool
    free_bytes: int | None
    most_bytes: int | None
    why: str
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known of a command before it runs.

    Attributes:
        frame: the command, its budget, and what past jobs say of it.
        is_named: whether somebody named that budget.
        reserved_bytes: what would be reserved for it.
        known: past jobs of its kind, in any world, oldest first.
        place: whether that is free.
        smaller: what of it would fit its budget, where it does not.
        errno: why the command cannot be started; 0 where it can.
        unknown_why: why nothing is known of it, or ``""``.
        trouble: what of the past could not be read, or ``""``.
    """

    frame: JobFrame
    is_named: bool
    reserved_bytes: int
    known: tuple[PastJob, ...]
    place: Place
    smaller: tuple[Smaller, ...]
    errno: int
    unknown_why: str
    trouble: str

    @property
    def verdict(self) -> Verdict:
        """Whether it would have its memory."""
        sizing = self.frame.sizing
        if sizing is not None and is_above_budget(sizing, self.frame.limit_bytes):
            return Verdict.NEVER
        return Verdict.NOW if self.place.is_free else Verdict.WAITS


def outlook_of(command: Sequence[str], naming: Naming, settings: Settings) -> Outlook:
    """Look.

    Args:
        command: the program and its arguments.
        naming: what its user says of it.
        settings: as read.

    Raises:
        ConfigError, SizeSyntaxError, CapacityExceeded: as `memguard.budget.resolve_budget`.
    """
    is_named = is_budget_named(naming, settings)
    frame = command_frame(command, naming, settings)
    known: tuple[PastJob, ...] = ()
    smaller: tuple[Smaller, ...] = ()
    trouble = ""
    if settings.forecast is not Switch.OFF:
        # Its own one: that of the process has told the past already where it was asked before.
        forecaster = Forecaster(settings.episodes, settings.miss_rate)
        likeness = command_likeness(command, settings)
        known = forecaster.refresh(likeness.kind)
        request = frame.limit_bytes if is_named else None
        sizing = forecaster.size(frame.job_id, likeness, request_bytes=request, tentative=True)
        frame = replace(frame, sizing=sizing)
        if sizing.predicted_bytes is not None:
            smaller = what_would_fit(forecaster.estimator, sizing, frame.limit_bytes)
        trouble = forecaster.trouble
    wish = command_wish(frame, settings, is_named=is_named)
    return Outlook(
        frame,
        is_named,
        wish.reserved_bytes,
        known,
        place_of(wish, settings),
        smaller,
        _errno_of(command[0]),
        _unknown_why(settings),
        trouble,
    )


def _unknown_why(settings: Settings) -> str:
    if settings.forecast is Switch.OFF:
        return "forecasts are off (setting forecast)"
    return "" if settings.episodes is not None else "no jobs are recorded (setting episodes)"


def _errno_of(program: str) -> int:
    """Return why a program cannot be started, 0 if it can; what its start may meet beyond that only the start tells."""
    if os.path.sep in program:
        if not os.path.exists(program):
            return errno.ENOENT
        return 0 if os.path.isfile(program) and os.access(program, os.X_OK) else errno.EACCES
    return 0 if program and shutil.which(program) else errno.ENOENT


def place_of(wish: Wish, settings: Settings) -> Place:
    """Return whether a wish would be granted at once, and why not; nothing is asked for.

    Args:
        wish: what a job would ask of the machine.
        settings: as read.
    """
    if settings.ledger is LedgerChoice.OFF:
        why = "the setting ledger is off: nothing would be reserved, and nobody waited for"
        return Place(True, None, None, why)
    seen = Watch(settings, with_actions=False).look()
    asked = _asked(wish, seen)
    leases = [each.lease for each in seen.standings.jobs if each.state is not JobState.GONE]
    standings = stand([*leases, asked], seen.ledger.entry, seen.room, seen.at_s)
    why = next(each.waits_for for each in standings.jobs if each.lease.lease_id == asked.lease_id)
    free = 0 if seen.room.is_closed else free_for(leases, seen.room, seen.at_s, asked.parent_id)
    is_free = _is_admitted(asked, leases, seen) if not asked.parent_id else asked.reserved_bytes <= free
    return Place(is_free, free, seen.room.capacity_bytes, why, seen.ledger.trouble)


def _asked(wish: Wish, seen: Overview) -> Lease:
    """Return the wish as the ledger would have it."""
    ids = {each.lease_id for each in seen.ledger.leases}
    return Lease(
        lease_id=wish.lease_id,
        owner=identify(),
        name=wish.name,
        reserved_bytes=wish.reserved_bytes,
        used_bytes=0,
        priority=wish.priority,
        asked_at_s=seen.at_s,
        granted_at_s=None,
        parent_id=wish.parent_id if wish.parent_id in ids else "",
        slot=0,
        token=0,
        domain=seen.room.domain,
    )


def _is_admitted(asked: Lease, leases: Sequence[Lease], seen: Overview) -> bool:
    """Whether a wish would be granted at once, behind all that wait already."""
    roots = [each for each in leases if not each.parent_id]
    own = [each for each in roots if each.domain == asked.domain]
    holders = [each for each in own if each.is_granted]
    waiting = [each for each in own if not each.is_granted]
    room = seen.room.beside_others(roots).beside(sum(each.used_bytes for each in holders))
    return asked in admitted(room, holders, [*waiting, asked], seen.at_s)
