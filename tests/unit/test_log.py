"""Logging: memguard speaks through its own loggers only and leaves everybody else's alone."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import os
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from memguard.config import LogFormat, LogLevel
from memguard.events import EVENTS, Event, EventBus
from memguard.log import configure_logging, get_logger, log_event, preserved_logging


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _own_structlog() -> Iterator[None]:
    """Put back what a test changes of structlog's configuration."""
    yield
    structlog.reset_defaults()


def run_python(program: str, project_root: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh interpreter, from the project's root."""
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(command, cwd=project_root, capture_output=True, text=True, check=False)


def test_importing_configures_nothing_of_the_application(project_root: Path) -> None:
    """After the import the root logger and structlog are untouched, and a warning of ours is not printed."""
    done = run_python(
        """
        import logging, structlog
        before = structlog.get_config()
        import memguard.log
        assert logging.root.handlers == [], logging.root.handlers
        assert logging.root.level == logging.WARNING
        assert not structlog.is_configured() and structlog.get_config() == before
        logger = logging.getLogger("memguard")
        assert [type(each) for each in logger.handlers] == [logging.NullHandler]
        assert logger.level == logging.NOTSET and logger.propagate
        memguard.log.get_logger("memguard.x").error("unheard")
        """,
        project_root,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_applications_handler_gets_a_readable_record(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever listens with plain logging reads event and fields, and finds the fields apart as well."""
    with caplog.at_level(logging.INFO):
        get_logger("memguard.worker").bind(job_id="j1").info("started", used_bytes=5, command='python "a b"')
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("memguard.worker", logging.INFO)
    assert record.getMessage() == 'started job_id=j1 used_bytes=5 command="python \\"a b\\""'
    assert vars(record)["memguard_fields"] == {"job_id": "j1", "used_bytes": 5, "command": 'python "a b"'}


def test_the_applications_structlog_configuration_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A global structlog configuration, made before or after, is neither used nor overwritten by ours."""
    logger = get_logger("memguard.worker")

    def explode(*_args: object) -> str:
        raise AssertionError("the application's processors were called")

    structlog.configure(
        processors=[explode],
        wrapper_class=structlog.BoundLogger,
        logger_factory=structlog.PrintLoggerFactory(),
    )
    with caplog.at_level(logging.INFO):
        logger.info("one")
        get_logger("memguard.other").info("two %s", 2)
    assert caplog.messages == ["one", "two 2"]
    assert structlog.get_config()["processors"] == [explode]


def test_a_percent_sign_and_a_strange_name_of_a_field_do_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    """Text is not taken for a format, and a field called like a part of the record hides nothing."""
    get_logger("memguard.x").warning("80% used", name="train", msg="x", levelname="y", empty="", line="a\nb")
    assert caplog.messages == ['80% used name=train msg=x levelname=y empty="" line="a\\nb"']
    assert caplog.records[0].name == "memguard.x"


def test_names_outside_the_package_are_put_below_it() -> None:
    """No logger of ours can be somebody else's."""
    names = {
        "memguard": "memguard",
        "memguard.a": "memguard.a",
        "__main__": "memguard.__main__",
        "memguardx": "memguard.memguardx",
    }
    for name, expected in names.items():
        assert get_logger(name).bind()._logger.name == expected


def test_context_variables_ride_on_each_line(caplog: pytest.LogCaptureFixture) -> None:
    """What structlog's context variables hold, such as a job id, is in every line within."""
    with structlog.contextvars.bound_contextvars(job_id="j7"):
        get_logger("memguard.x").warning("inside")
    get_logger("memguard.x").warning("outside")
    assert caplog.messages == ["inside job_id=j7", "outside"]


@pytest.mark.parametrize("log_format", [LogFormat.AUTO, LogFormat.TEXT])
def test_text_is_readable_and_plain_where_no_terminal_reads(log_format: LogFormat) -> None:
    """Text lines have time, level, event and fields, and no escape sequence in a file."""
    stream = io.StringIO()
    configure_logging(log_format, LogLevel.INFO, stream)
    get_logger("memguard.x").info("started", job_id="j1")
    get_logger("memguard.x").debug("not shown")
    time, rest = stream.getvalue().split(" ", 1)
    assert len(time.split(":")) == 3
    assert rest == "INFO started job_id=j1\n"


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only auto on a terminal is coloured, NO_COLOR is honoured, and the level is in words either way."""
    lines = {}
    for log_format, no_color in ((LogFormat.AUTO, ""), (LogFormat.AUTO, "1"), (LogFormat.TEXT, "")):
        monkeypatch.setenv("NO_COLOR", no_color)
        stream = Terminal()
        configure_logging(log_format, LogLevel.WARNING, stream)
        get_logger("memguard.x").warning("near its budget")
        lines[log_format, no_color] = stream.getvalue()
    assert all("WARNING" in line and "near its budget" in line for line in lines.values())
    assert ["\x1b[" in line for line in lines.values()] == [True, False, False]


def test_json_lines_are_one_object_each() -> None:
    """JSON lines carry time, level, logger, event, typed fields and tracebacks, whatever the values are."""
    stream = io.StringIO()
    configure_logging(LogFormat.JSON, LogLevel.INFO, stream)
    logger = get_logger("memguard.x")
    logger.info(
        "résumé\n2", used_bytes=5, ratio=0.5, odd=float("nan"), path=Path("a"), level="mine", none=None
    )
    try:
        raise ValueError("bad")
    except ValueError:
        logger.exception("failed")
    logging.getLogger("memguard.plain").warning("plain %s", "record")
    first, second, third = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "info",
        "logger": "memguard.x",
        "event": "résumé\n2",
        "used_bytes": 5,
        "ratio": 0.5,
        "odd": "nan",
        "path": "a",
        "level_": "mine",
        "none": None,
    }
    assert second["exception"].endswith("ValueError: bad")
    assert (third["event"], third["level"]) == ("plain record", "warning")


def test_configuring_twice_shows_each_line_once() -> None:
    """The second configuration replaces the first, and neither touches the root logger."""
    root_handlers, root_level = list(logging.root.handlers), logging.root.level
    first, second = io.StringIO(), io.StringIO()
    configure_logging(LogFormat.TEXT, LogLevel.DEBUG, first)
    configure_logging(LogFormat.TEXT, LogLevel.INFO, second)
    get_logger("memguard.x").info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1
    assert (logging.root.handlers, logging.root.level) == (root_handlers, root_level)


def test_a_root_handler_does_not_repeat_our_lines() -> None:
    """Once the command line shows the log, a basicConfig by a library does not show it a second time."""
    stream, root_stream = io.StringIO(), io.StringIO()
    root_handler = logging.StreamHandler(root_stream)
    logging.root.addHandler(root_handler)
    try:
        configure_logging(LogFormat.TEXT, LogLevel.INFO, stream)
        get_logger("memguard.x").warning("once")
    finally:
        logging.root.removeHandler(root_handler)
    assert (stream.getvalue().count("once"), root_stream.getvalue()) == (1, "")


def test_a_log_that_nobody_can_read_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, a pipe without a reader, no stderr at all: nothing is raised, then or by a later flush."""
    reader, writer = os.pipe()
    os.close(reader)
    configure_logging(LogFormat.TEXT, LogLevel.INFO)
    with open(writer, "w") as unread, open("/dev/full", "w") as full:
        for stream in (unread, full, None):
            monkeypatch.setattr(sys, "stderr", stream)
            get_logger("memguard.x").info("words")
        unread.flush()
        full.flush()


def test_stderr_is_looked_up_at_each_message(capsys: pytest.CaptureFixture[str]) -> None:
    """A replaced sys.stderr, as in a test or a notebook, gets the later lines."""
    configure_logging(LogFormat.TEXT, LogLevel.INFO)
    get_logger("memguard.x").info("first")
    assert "first" in capsys.readouterr().err
    replaced, sys.stderr = sys.stderr, io.StringIO()
    try:
        get_logger("memguard.x").info("second")
        assert "second" in sys.stderr.getvalue()
    finally:
        sys.stderr = replaced


@pytest.mark.parametrize("name", EVENTS)
def test_every_event_can_be_logged(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """An event becomes one record with its ids and fields, also with fields named like log arguments."""
    fields: dict[str, str | int | float | bool | None] = {
        "used_bytes": 5,
        "event": "e",
        "level": 3,
        "exc_info": True,
    }
    with caplog.at_level(logging.INFO):
        log_event(Event(name, job_id="j1", fields=fields))
    (record,) = caplog.records
    assert record.name == "memguard.events"
    assert record.getMessage() == f"{name} job_id=j1 used_bytes=5 event=e level=3 exc_info=True"


def test_events_that_people_should_look_into_are_warnings(caplog: pytest.LogCaptureFixture) -> None:
    """With the default level, trouble is heard and routine is not."""
    bus = EventBus()
    with bus.subscribed(log_event), caplog.at_level(logging.WARNING):
        for name in ("memguard.job_started", "memguard.budget_neared", "memguard.job_ended"):
            bus.publish(Event(name))
    assert caplog.messages == ["memguard.budget_neared"]


def test_an_event_in_json_is_found_by_its_name() -> None:
    """JSON lines of events carry name and fields as keys of their own."""
    stream = io.StringIO()
    configure_logging(LogFormat.JSON, LogLevel.INFO, stream)
    log_event(Event("memguard.job_ended", job_id="j1", cause_id="c1", fields={"outcome": "completed"}))
    line = json.loads(stream.getvalue())
    assert (line["event"], line["job_id"], line["cause_id"]) == ("memguard.job_ended", "j1", "c1")
    assert line["outcome"] == "completed"


def test_the_root_logger_is_as_before_after_a_block(tmp_path: Path) -> None:
    """Handlers, filters, level, disabling, last resort and warnings capture are all put back."""
    root, kept = logging.Logger.root, logging.NullHandler()
    root.addHandler(kept)
    before = (list(root.handlers), list(root.filters), root.level, root.disabled, root.manager.disable)
    resort, shows = logging.lastResort, warnings.showwarning
    try:
        with preserved_logging():
            logging.basicConfig(filename=tmp_path / "x.log", level=logging.DEBUG, force=True)
            (added,) = [each for each in root.handlers if isinstance(each, logging.FileHandler)]
            root.addFilter(lambda _record: False)
            logging.disable(logging.CRITICAL)
            logging.captureWarnings(capture=True)
            logging.lastResort, root.disabled = None, True
        assert (
            list(root.handlers),
            list(root.filters),
            root.level,
            root.disabled,
            root.manager.disable,
        ) == before
        assert logging.lastResort is resort
        assert warnings.showwarning is shows
        assert added.stream is None
    finally:
        root.removeHandler(kept)


def test_warnings_that_were_captured_are_captured_again() -> None:
    """A block that ends the capture of warnings, or replaces who shows them, changes nothing for later."""
    original = warnings.showwarning
    logging.captureWarnings(capture=True)
    try:
        with preserved_logging():
            logging.captureWarnings(capture=False)
        assert warnings.showwarning is not original
        with preserved_logging():
            warnings.showwarning = print  # type: ignore[assignment]
        assert warnings.showwarning.__module__ == "logging"
    finally:
        logging.captureWarnings(capture=False)
    assert warnings.showwarning is original


def test_an_error_leaves_the_block_with_logging_restored() -> None:
    """Also an import that fails half way leaves the root logger as it was."""
    level = logging.root.level
    with contextlib.suppress(ImportError), preserved_logging():
        logging.root.setLevel(logging.DEBUG)
        raise ImportError
    assert logging.root.level == level


def test_importing_autofeat_inside_the_block_leaves_the_root_logger_alone(project_root: Path) -> None:
    """What autofeat does to the root logger at import is undone: it calls logging.basicConfig there."""
    if importlib.util.find_spec("autofeat") is None:
        pytest.skip("autofeat is not installed")
    done = run_python(
        """
        import logging
        from memguard.log import preserved_logging
        with preserved_logging():
            import autofeat
            assert logging.root.handlers and logging.root.level == logging.INFO, "autofeat has become polite"
        assert logging.root.handlers == [], logging.root.handlers
        assert logging.root.level == logging.WARNING
        logging.getLogger("application").info("must not appear")
        """,
        project_root,
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "must not appear" not in done.stderr
    assert "Error" not in done.stderr
