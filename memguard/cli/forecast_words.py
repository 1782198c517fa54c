"""What people are told of a command's forecast while it runs: lines for stderr. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from memguard.events import JsonScalar
from memguard.report import JobReport, Outcome
from memguard.units import format_bytes, format_setting, format_share

__all__ = ["tell_forecast", "tell_over_generous"]

_RUNBOOK: Final = "ForecastMissed"
# A figure is over-generous from here on, as a report has it: two fifths of it are enough.
_LOOSE: Final = 0.4
# Less than this that waits idle is nobody's room.
_LEAST_IDLE_BYTES: Final = 64 << 20
# What to name in its place: a quarter above what is enough keeps the next run below its warning line.
_HEADROOM: Final = 1.25


def tell_forecast(event: str, name: str, fields: Mapping[str, JsonScalar]) -> str:
    """Return in a line what an event says of a command's forecast; ``""`` for other events.

    Args:
        event: its name.
        name: of the job.
        fields: of the event.
    """
    sizes = {
        key: format_bytes(value)
        for key, value in fields.items()
        if key.endswith("_bytes") and isinstance(value, int | float)
    }
    if event == "memguard.forecast_missed":
        return f"{name} used {sizes['peak_bytes']}; {sizes['predicted_bytes']} were forecast"
    if event == "memguard.forecast_widened":
        rate = fields["miss_rate"]
        stated = format_share(rate) if isinstance(rate, float) else "the stated rate"
        later = (
            f"the next one is to have {sizes['next_bytes']}" if "next_bytes" in sizes else "more is reserved"
        )
        return (
            f"{name}: jobs of its kind used more than forecast more often than {stated} allows; "
            f"until that ends {later} (memguard runbook {_RUNBOOK})"
        )
    return _tell_overrun(name, fields, sizes) if event == "memguard.overrun_foreseen" else ""


def _tell_overrun(name: str, fields: Mapping[str, JsonScalar], sizes: Mapping[str, str]) -> str:
    needed, most = fields["needed_bytes"], fields["capacity_bytes"]
    assert isinstance(needed, int)
    assert isinstance(most, int)
    would_do = (
        f"name more, --memory {format_setting(needed)}"
        if needed <= most
        else f"it needs {sizes['needed_bytes']}, more than the {format_bytes(most)} there are"
    )
    fitting = f"; {fields['would_fit']} would fit" if fields["would_fit"] else ""
    return (
        f"{name}: jobs like it used more than its budget of {sizes['limit_bytes']}; {would_do}"
        f"{fitting} (memguard estimate tells more)"
    )


def tell_over_generous(report: JobReport) -> str:
    """Return in a line what a named budget costs that is far above what jobs like it use; ``""`` where it is not.

    Args:
        report: of a job of which enough is known, and which has completed.
    """
    sizing, named = report.sizing, report.budget.limit_bytes
    if sizing is None or not sizing.next_bytes or report.outcome is not Outcome.COMPLETED:
        return ""
    enough = max(sizing.next_bytes, report.peak_bytes)
    idle = named - enough
    if enough >= _LOOSE * named or idle < _LEAST_IDLE_BYTES:
        return ""
    return (
        f"{report.name}: {format_bytes(named)} named, jobs like it use at most {format_bytes(enough)}: "
        f"{format_bytes(idle)} would wait idle, room for {idle // enough:,} more such jobs; "
        f"--memory {format_setting(round(_HEADROOM * enough))} would do"
    )
