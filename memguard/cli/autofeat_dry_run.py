"""``memguard autofeat --dry-run``: what a fit would need, why, and whether that is free; and what its budget is."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from memguard.budget import resolve_budget
from memguard.cli.autofeat_view import view_for
from memguard.cli.exits import show
from memguard.cli.outlook import Place, place_of
from memguard.config import Settings
from memguard.enclosure import bound_of_process
from memguard.errors import CapacityExceeded, ConfigError
from memguard.jobs import machine_for, new_job_id
from memguard.leasing import most_reservable, parent_lease
from memguard.ledger.book import Wish
from memguard.manager import MemoryManager
from memguard.units import format_bytes

if TYPE_CHECKING:
    from memguard_integrations.autofeat import TableRequest
    from memguard_integrations.autofeat.prospects import Prospect

__all__ = ["budget_of", "tell_prospect"]


def tell_prospect(
    request: TableRequest, memory: str | None, settings: Settings, *, as_json: bool, quiet: bool
) -> None:
    """Survey a table and print what would become of its fit.

    Args:
        request: what would be done.
        memory: the budget as it was typed.
        settings: as read.
        as_json: print a document.
        quiet: say nothing of the survey.

    Raises:
        FitRefused: if the fit would be refused, after all of it was printed.
    """
    from memguard_integrations.autofeat.prospects import describe_prospect, prospect_document  # noqa: PLC0415
    from memguard_integrations.autofeat.table_run import foresee_table  # noqa: PLC0415

    with (
        MemoryManager(budget_of(memory, settings), name="memguard autofeat", settings=settings) as manager,
        view_for(quiet=quiet) as view,
    ):
        seen = foresee_table(manager, request, on_progress=view)
    place = place_of(_wish(seen, settings), settings)
    if as_json:
        document = {"schema": "memguard.autofeat-prospect/1", "data": request.data, **prospect_document(seen)}
        show(json.dumps({**document, "now": dataclasses.asdict(place)}, indent=2))
    else:
        show("\n".join(describe_prospect(seen, _told(place))))
    if seen.refusal is not None:
        raise seen.refusal


def _wish(seen: Prospect, settings: Settings) -> Wish:
    wanted = seen.budget_bytes
    if seen.sizing is not None and seen.sizing.predicted_bytes is not None:
        wanted = min(wanted, seen.sizing.predicted_bytes)
    wanted = min(wanted, most_reservable(settings))
    return Wish(new_job_id(), "autofeat", wanted, settings.priority, parent_lease())


def _told(place: Place) -> str:
    if place.trouble:
        return place.trouble
    if place.free_bytes is None:
        return place.why
    free = f"{format_bytes(place.free_bytes)} of {format_bytes(place.most_bytes or 0)} are free"
    return f"it would start at once: {free}" if place.is_free else f"it would wait: {place.why}; {free}"


def budget_of(memory: str | None, settings: Settings) -> int:
    """Return the budget of a run, in bytes.

    Raises:
        ConfigError: for one that cannot be had.
    """
    machine = machine_for(settings)
    try:
        outer = bound_of_process()
        budget = resolve_budget(
            memory,
            machine,
            default=settings.memory,
            outer=outer,
            source="--memory",
            default_source=f"memory ({settings.origins['memory']})",
        )
        return budget.limit_bytes
    except CapacityExceeded as error:
        raise ConfigError(str(error), setting="memory", origin="--memory") from error
