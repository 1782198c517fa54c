"""Logging: structlog on top of the standard library's loggers below ``"memguard"``, and nobody else's.

Comes in: messages with fields, and events. Goes out: ordinary log records, readable as they are by any
handler; the command line adds a handler of its own (text or JSON lines). Importing this configures
nothing: not the root logger, not structlog, whose global configuration belongs to the application.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

import structlog

from memguard.config import LogFormat, LogLevel
from memguard.files import LossyStream

if TYPE_CHECKING:
    from memguard.events import Event

__all__ = ["configure_logging", "get_logger", "log_event", "log_words", "preserved_logging", "shows_json"]

_ROOT_NAME: Final = "memguard"
# What a record carries besides its text, for formatters that want the fields apart.
_FIELDS: Final = "memguard_fields"
_EVENT: Final = "memguard_event"
_COLOURS: Final = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m"}
_WARNED_EVENTS: Final = frozenset(
    {
        "memguard.batch_failed",
        "memguard.budget_neared",
        "memguard.budget_exceeded",
        "memguard.forecast_widened",
        "memguard.guard_degraded",
        "memguard.model_survived",
        "memguard.overrun_foreseen",
    }
)

# Without a handler of its own the library would speak through logging.lastResort, unasked.
logging.getLogger(_ROOT_NAME).addHandler(logging.NullHandler())


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the structlog logger that writes to ``logging.getLogger(name)``.

    Args:
        name: the module's ``__name__``; names outside ``"memguard"`` are put below it.

    Returns:
        A logger that keeps to its own processors whatever structlog is configured to do globally.
    """
    full_name = name if name.partition(".")[0] == _ROOT_NAME else f"{_ROOT_NAME}.{name}"
    logger = structlog.wrap_logger(
        logging.getLogger(full_name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.PositionalArgumentsFormatter(),
            _to_record,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    return cast("structlog.stdlib.BoundLogger", logger)


def log_event(event: Event) -> None:
    """Write an event to the logger ``memguard.events``; subscribe it to an `EventBus` to log them all.

    Events that a person should look into are warnings, the others are information.
    """
    level = logging.WARNING if event.name in _WARNED_EVENTS else logging.INFO
    logger = logging.getLogger(f"{_ROOT_NAME}.events")
    if not logger.isEnabledFor(level):
        return
    ids = {"job_id": event.job_id, "cause_id": event.cause_id}
    fields = {**{name: value for name, value in ids.items() if value}, **event.fields}
    logger.log(level, _line(event.name, fields), extra={_EVENT: event.name, _FIELDS: fields})


def configure_logging(
    log_format: LogFormat = LogFormat.AUTO,
    level: LogLevel = LogLevel.WARNING,
    stream: TextIO | None = None,
) -> None:
    """Show memguard's own log; for the command line, not for a library's user.

    Touches only the logger ``"memguard"``, which from then on hands nothing to the root logger. A second
    call replaces what the first one set up.

    Args:
        log_format: JSON lines, text, or text that is coloured where ``stream`` is a terminal.
        level: the least serious message to show.
        stream: where to write; ``None`` means whatever ``sys.stderr`` is at each message.
    """
    handler = _CommandHandler(stream)
    if log_format == LogFormat.JSON:
        handler.setFormatter(_JsonFormatter())
    else:
        handler.setFormatter(_TextFormatter(coloured=log_format == LogFormat.AUTO and _wants_colour(handler)))
    logger = logging.getLogger(_ROOT_NAME)
    for former in _command_handlers():
        logger.removeHandler(former)
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False


def shows_json() -> bool:
    """Whether the command line writes its log as JSON lines; its words must be such lines too then."""
    return any(isinstance(each.formatter, _JsonFormatter) for each in _command_handlers())


def log_words(text: str, level: LogLevel, fields: Mapping[str, str]) -> None:
    """Write what the command line says to its log, whatever level was asked for: words are always said."""
    logger, number = logging.getLogger(f"{_ROOT_NAME}.cli"), getattr(logging, level.upper())
    extra = {_EVENT: text, _FIELDS: fields}
    record = logger.makeRecord(logger.name, number, "", 0, text, (), None, extra=extra)
    for handler in _command_handlers():
        handler.handle(record)


def _command_handlers() -> list[_CommandHandler]:
    return [each for each in logging.getLogger(_ROOT_NAME).handlers if isinstance(each, _CommandHandler)]


@contextmanager
def preserved_logging() -> Iterator[None]:
    """Undo what the code inside the block does to the root logger, the last resort and warnings capture.

    For imports such as autofeat's, which call `logging.basicConfig`: handlers, filters and level of the
    root logger, `logging.disable`, `logging.lastResort` and `warnings.showwarning` are as before
    afterwards, and handlers that the block added to the root logger are closed. Does not look at loggers
    with a name, and is not meant for two threads at a time: what another thread configures meanwhile is
    undone as well.
    """
    root, manager = logging.root, logging.root.manager
    handlers, filters, level = list(root.handlers), list(root.filters), root.level
    disabled, disable_level, last_resort = root.disabled, manager.disable, logging.lastResort
    shows_warnings = warnings.showwarning
    try:
        yield
    finally:
        added = [handler for handler in root.handlers if handler not in handlers]
        root.handlers[:], root.filters[:] = handlers, filters
        root.setLevel(level)
        root.disabled, manager.disable, logging.lastResort = disabled, disable_level, last_resort
        _restore_warnings(shows_warnings)
        for handler in added:
            handler.close()


def _restore_warnings(shows_warnings: Any) -> None:
    if warnings.showwarning is shows_warnings:
        return
    # First through logging's own switch, whose memory of the captured function would else go stale.
    logging.captureWarnings(getattr(shows_warnings, "__module__", "") == logging.__name__)
    warnings.showwarning = shows_warnings


def _to_record(
    _logger: Any, _method: str, values: MutableMapping[str, Any]
) -> tuple[tuple[str], dict[str, Any]]:
    """Turn structlog's dict into the arguments of a standard logger's method."""
    event = str(values.pop("event", ""))
    passed = {name: values.pop(name) for name in ("exc_info", "stack_info", "stacklevel") if name in values}
    fields = dict(values)
    return (_line(event, fields),), {**passed, "extra": {_EVENT: event, _FIELDS: fields}}


def _line(event: str, fields: Mapping[str, Any]) -> str:
    return " ".join([event, *(f"{name}={_word(value)}" for name, value in fields.items())])


def _word(value: object) -> str:
    """Write one value so that the line can be split again: quoted where it holds a space or a quote."""
    text = str(value)
    plain = text.isprintable() and not any(character in text for character in " \"'=")
    return text if text and plain else json.dumps(text, ensure_ascii=False)


class _CommandHandler(logging.StreamHandler[Any]):
    """The handler of the command line, known by its class; follows ``sys.stderr`` unless told a stream."""

    def __init__(self, stream: TextIO | None) -> None:
        logging.Handler.__init__(self)
        self._fixed_stream = stream

    @property
    def stream(self) -> Any:
        # A log that nobody can read is lost; what stays in the stream would be raised by somebody's next flush.
        return LossyStream(self._fixed_stream or sys.stderr)


def _wants_colour(handler: _CommandHandler) -> bool:
    # https://no-color.org: any value but the empty one means no colour.
    return not os.environ.get("NO_COLOR") and bool(getattr(handler.stream, "isatty", bool)())


class _TextFormatter(logging.Formatter):
    def __init__(self, *, coloured: bool) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        colour = _COLOURS.get(record.levelname, "") if self._coloured else ""
        return text.replace(record.levelname, f"{colour}{record.levelname}\x1b[0m", 1) if colour else text


class _JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, event, fields, and the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": getattr(record, _EVENT, None) or record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # A field must not hide what every line has.
        fields = {
            f"{name}_" if name in line else name: value
            for name, value in getattr(record, _FIELDS, {}).items()
        }
        return json.dumps(
            {**line, **{name: _plain(value) for name, value in fields.items()}}, ensure_ascii=False
        )


def _plain(value: object) -> object:
    """Return what JSON can hold: a number it has no word for, or an object, becomes text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if isinstance(value, str | int | None) else str(value)
