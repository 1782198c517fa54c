"""How units, settings, errors and events are used, as a type checker sees it. Checked by mypy, not run."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

from memguard.config import FenceChoice, Settings, load_settings, unknown_environment
from memguard.errors import CapacityExceeded, ConfigError, MemguardError, MemoryLimitExceeded
from memguard.events import Event, EventBus
from memguard.log import configure_logging, get_logger, log_event, preserved_logging
from memguard.units import Size, format_bytes, format_setting, parse_bytes, parse_duration, parse_size


def sizes() -> None:
    """Text in, numbers out."""
    assert_type(parse_size("4GiB"), Size)
    assert_type(parse_size("80%").resolve(1024), int)
    assert_type(parse_bytes(4096), int)
    assert_type(parse_duration("5m"), float)
    assert_type(format_bytes(1.5e9), str)
    assert_type(format_setting(4096), str)
    parse_size(0.8)  # type: ignore[arg-type]


def settings() -> None:
    """Every setting has a type of its own."""
    found = load_settings({"memory": "2GiB"}, environ={}, directory=Path())
    assert_type(found, Settings)
    assert_type(found.memory, Size)
    assert_type(found.capacity, Size | None)
    assert_type(found.timeout_s, float | None)
    assert_type(found.fence, FenceChoice)
    assert_type(found.origins["memory"], str)
    assert_type(unknown_environment(), tuple[str, ...])
    found.grace_s = 1.0  # type: ignore[misc]


def errors() -> int:
    """An error is caught as the builtin or as ours, and has its fields either way."""
    try:
        load_settings()
    except ConfigError as error:
        assert_type(error.setting, str)
    try:
        raise CapacityExceeded("too large", requested_bytes=2, capacity_bytes=1, limited_by="physical")
    except (CapacityExceeded, MemoryLimitExceeded) as error:
        out_of_memory: MemoryError = error
        ours: MemguardError = error
        return len(str(out_of_memory)) + len(ours.message)


def events(bus: EventBus) -> None:
    """Subscribers get events; fields are scalars."""
    received: list[Event] = []
    with bus.subscribed(received.append):
        bus.publish(Event("memguard.job_started", fields={"budget_bytes": 5}))
    bus.subscribe(log_event)()
    bus.subscribe(len)  # type: ignore[arg-type]
    Event("memguard.job_started", fields={"x": [1]})  # type: ignore[dict-item]


def logging() -> None:
    """The logger is structlog's, with its methods."""
    with preserved_logging():
        configure_logging()
    get_logger(__name__).bind(job_id="j1").info("started", used_bytes=5)
