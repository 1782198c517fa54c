"""docs/events.md, from the list of events."""

from __future__ import annotations

from memguard.events import EVENTS
from tools.markdown import table_row

__all__ = ["render"]

_HEAD = """\
# Events

What memguard publishes, to subscribers of an `EventBus` and to the logger `memguard.events`. An event names
the job (`job_id`) and what led to it (`cause_id`); its figures have their units in their names. In the log it
is a line with the fields as `name=value`, or one JSON object a line with `log_format = "json"`.
"""


def render() -> str:
    """Return the page."""
    rows = [table_row(f"`{name}`", meaning) for name, meaning in EVENTS.items()]
    return "\n".join([_HEAD, table_row("event", "when"), table_row("---", "---"), *rows]) + "\n"
