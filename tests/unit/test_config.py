"""Settings: who wins, what is refused and how, and what the command shows."""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from memguard.cli.config import config_command
from memguard.config import (
    SETTINGS,
    FenceChoice,
    LogFormat,
    LogLevel,
    Redaction,
    Setting,
    Settings,
    load_settings,
    unknown_environment,
)
from memguard.errors import ConfigError
from memguard.units import GIB, parse_size

BY_NAME = {setting.name: setting for setting in SETTINGS}


def load(
    directory: Path, environ: dict[str, str] | None = None, overrides: dict[str, object] | None = None
) -> Settings:
    return load_settings(overrides, environ=environ or {}, directory=directory)


def test_the_table_and_the_record_name_the_same_settings() -> None:
    """Every line of the table is an attribute of Settings and the other way round."""
    attributes = [each.name for each in dataclasses.fields(Settings) if each.name != "origins"]
    assert [setting.attribute for setting in SETTINGS] == attributes
    assert len(BY_NAME) == len(SETTINGS)


def test_the_defaults_are_what_the_pages_promise(tmp_path: Path) -> None:
    """With nothing set, every value is the documented default and says so."""
    settings = load(tmp_path)
    assert settings.capacity is None
    assert settings.memory.fraction == pytest.approx(0.8)
    assert settings.warn_at_fraction == pytest.approx(0.8)
    assert settings.timeout_s is None
    assert (settings.grace_s, settings.sample_interval_min_s, settings.sample_interval_max_s) == (
        5,
        0.01,
        0.25,
    )
    assert settings.fence is FenceChoice.AUTO
    assert settings.oom_score_adj == 500
    assert (settings.cleanup_interval_s, settings.cleanup_deadline_s) == (300, 5)
    assert (settings.log_format, settings.log_level) == (LogFormat.AUTO, LogLevel.WARNING)
    assert settings.redact is Redaction.AUTO
    assert settings.report_dir is None
    assert dict(settings.origins) == dict.fromkeys(BY_NAME, "default")


@pytest.mark.requirement("U8")
def test_the_nearest_place_wins_setting_by_setting(tmp_path: Path) -> None:
    """Flag beats environment beats memguard.toml beats pyproject.toml beats default, each setting alone."""
    (tmp_path / "pyproject.toml").write_text(
        '[tool.memguard]\nmemory = "1GiB"\ngrace = "1s"\ntimeout = "1h"\nfence = "rlimit"\n'
    )
    (tmp_path / "memguard.toml").write_text('memory = "2GiB"\ngrace = "2s"\ntimeout = "2h"\n')
    environ = {"MEMGUARD_MEMORY": "3GiB", "MEMGUARD_GRACE": "3s"}
    settings = load(tmp_path, environ, {"memory": "4GiB", "grace": None})
    assert settings.memory.absolute_bytes == 4 * GIB
    assert (settings.grace_s, settings.timeout_s, settings.fence) == (3, 7200, FenceChoice.RLIMIT)
    assert {name: settings.origins[name] for name in ("memory", "grace", "timeout", "fence", "redact")} == {
        "memory": "flag --memory",
        "grace": "environment MEMGUARD_GRACE",
        "timeout": "memguard.toml",
        "fence": "pyproject.toml [tool.memguard]",
        "redact": "default",
    }


def test_unset_in_a_nearer_place_undoes_a_farther_one(tmp_path: Path) -> None:
    """A timeout from a file can be taken away for one run."""
    (tmp_path / "memguard.toml").write_text('timeout = "1h"\n')
    assert load(tmp_path, {"MEMGUARD_TIMEOUT": "unset"}).timeout_s is None
    with pytest.raises(ConfigError, match="memory"):
        load(tmp_path, {"MEMGUARD_MEMORY": "unset"})


def test_a_named_file_replaces_those_of_the_directory(tmp_path: Path) -> None:
    """MEMGUARD_CONFIG names the only file that is read; its relative paths start where it lies."""
    (tmp_path / "memguard.toml").write_text('memory = "2GiB"\n')
    elsewhere = tmp_path / "etc" / "guard.toml"
    elsewhere.parent.mkdir()
    elsewhere.write_text('grace = 9\nreport_dir = "reports"\n')
    settings = load(tmp_path, {"MEMGUARD_CONFIG": str(elsewhere)})
    assert settings.memory.text == "80%"
    assert settings.grace_s == 9
    assert settings.report_dir == elsewhere.parent / "reports"
    assert settings.origins["grace"] == f"{elsewhere} (MEMGUARD_CONFIG)"


def test_parent_directories_are_not_searched(tmp_path: Path) -> None:
    """A file further up changes nothing: a limit must not come from a place nobody looked at."""
    (tmp_path / "memguard.toml").write_text('memory = "2GiB"\n')
    below = tmp_path / "below"
    below.mkdir()
    assert load(below).origins["memory"] == "default"


def test_a_project_file_without_our_table_is_no_matter(tmp_path: Path) -> None:
    """Most pyproject.toml files say nothing of memguard."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n[tool.ruff]\nline-length = 88\n')
    assert set(load(tmp_path).origins.values()) == {"default"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("memguard.toml", "memory = = 3\n", r"memguard\.toml cannot be read .*line 1"),
        ("memguard.toml", b"\xff\xfe", r"memguard\.toml cannot be read"),
        (
            "memguard.toml",
            'memroy = "1GiB"',
            r"'memroy' in memguard\.toml is not a setting; did you mean 'memory'",
        ),
        ("memguard.toml", "sample-interval-min = 1", "did you mean 'sample_interval_min'"),
        ("memguard.toml", "qqq = 1", r"the settings are capacity, memory, .*report_dir"),
        ("memguard.toml", "memory = true", r"memory \(memguard\.toml\): a bool is neither"),
        ("memguard.toml", "memory = 0.8", r"memory \(memguard\.toml\): .*did you mean 80%"),
        ("memguard.toml", "[memory]\nmax = 1", r"memory \(memguard\.toml\): a dict is neither"),
        ("memguard.toml", "grace = 1979-05-27", r"grace \(memguard\.toml\): a date is neither"),
        ("memguard.toml", "memory = " + "[" * 5000, r"memguard\.toml cannot be read .*nested too deeply"),
        ("memguard.toml", "grace = " + "9" * 5000, r"memguard\.toml cannot be read .*digits"),
        ("memguard.toml", "grace = 0x" + "f" * 5000, r"grace \(memguard\.toml\): "),
        ("memguard.toml", "grace = nan", r"grace \(memguard\.toml\): 'nan' is not a duration"),
        ("memguard.toml", "x" * 100_000 + " = 1", r"'xxxx[^ ]{,40} in memguard\.toml is not a setting"),
        ("memguard.toml", "#" * (5 << 20), r"memguard\.toml cannot be read .*larger than 4 MiB"),
        ("pyproject.toml", "[tool.memguard]\nmem = 1", r"'mem' in pyproject\.toml \[tool\.memguard\]"),
        ("pyproject.toml", "[tool]\nmemguard = 3", r"'memguard' in pyproject\.toml .* is not a table"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    """A file with a mistake is refused with its name, the place and what would be right."""
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["", "no/such/file.toml", "."])
def test_a_named_file_that_cannot_be_read_is_an_error(tmp_path: Path, value: str) -> None:
    """Naming a file and not getting it would run a job without the limit that was meant."""
    with pytest.raises(ConfigError, match=r"\(MEMGUARD_CONFIG\) cannot be read"):
        load(tmp_path, {"MEMGUARD_CONFIG": value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("capacity", "4 bananas"),
        ("memory", ""),
        ("memory", "0"),
        ("memory", "0%"),
        ("memory", "0.8"),
        ("warn_at", "0.8"),
        ("warn_at", "0%"),
        ("warn_at", "2GiB"),
        ("warn_at", "101%"),
        ("timeout", "0"),
        ("timeout", "soon"),
        ("grace", "-1s"),
        ("sample_interval_min", "0"),
        ("cleanup_interval", "10ms"),
        ("fence", "cage"),
        ("oom_score_adj", "-1"),
        ("oom_score_adj", "1001"),
        ("oom_score_adj", "9" * 5000),
        ("oom_score_adj", "5.0"),
        ("log_format", "xml"),
        ("log_level", "loud"),
        ("redact", "some"),
        ("report_dir", ""),
        ("report_dir", "a\0b"),
        ("report_dir", "~nobody-has-this-name/x"),
    ],
)
def test_a_bad_value_names_the_setting_its_origin_and_the_forms(
    name: str, value: str, tmp_path: Path
) -> None:
    """Every bad value is told as: which setting, where it was set, what would be accepted."""
    setting = BY_NAME[name]
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, {setting.environment: value})
    message = str(caught.value)
    assert message.startswith(f"{name} (environment {setting.environment}): ")
    assert setting.kind.forms in message
    assert (caught.value.setting, caught.value.origin) == (name, f"environment {setting.environment}")
    assert "\n" not in message
    assert len(message) < 260


@pytest.mark.parametrize("name", ["memguard.toml", "pyproject.toml"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_is_not_waited_for(make: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    """A pipe or a folder of that name is refused at once, in one line that names it."""
    make(tmp_path / name)
    with pytest.raises(ConfigError, match=rf"{name} cannot be read \(.*\); correct it or move it away"):
        load(tmp_path)


def test_a_pipe_may_be_named(tmp_path: Path) -> None:
    """What a shell's <(...) gives is read, and a stream without an end is refused."""
    reader, writer = os.pipe()
    os.write(writer, b"grace = 7")
    os.close(writer)
    try:
        assert load(tmp_path, {"MEMGUARD_CONFIG": f"/dev/fd/{reader}"}).grace_s == 7
    finally:
        os.close(reader)
    with pytest.raises(ConfigError, match="larger than 4 MiB"):
        load(tmp_path, {"MEMGUARD_CONFIG": "/dev/zero"})


def test_a_flag_that_is_no_setting_is_refused(tmp_path: Path) -> None:
    """A caller's typing error does not pass as an override of nothing."""
    with pytest.raises(ConfigError, match="did you mean 'grace'"):
        load(tmp_path, overrides={"grac": "1s"})


def test_intervals_in_the_wrong_order_are_refused_with_both_origins(tmp_path: Path) -> None:
    """The shortest interval cannot be longer than the longest, wherever the two were set."""
    (tmp_path / "memguard.toml").write_text('sample_interval_max = "100ms"\n')
    with pytest.raises(ConfigError, match=r"200ms \(environment .*MIN\).*100ms \(memguard\.toml\)"):
        load(tmp_path, {"MEMGUARD_SAMPLE_INTERVAL_MIN": "200ms"})
    assert load(tmp_path, {"MEMGUARD_SAMPLE_INTERVAL_MIN": "100ms"}).sample_interval_min_s == 0.1


def test_values_that_are_no_text_are_accepted_as_flags(tmp_path: Path) -> None:
    """Whoever has a number, a Size, a choice or a path already need not write it as text."""
    overrides: dict[str, object] = {
        "memory": 5 * GIB,
        "capacity": parse_size("50%"),
        "grace": 2.5,
        "fence": FenceChoice.NONE,
        "report_dir": tmp_path,
    }
    settings = load(tmp_path, {"MEMGUARD_GRACE": "9s"}, overrides)
    assert settings.memory.absolute_bytes == 5 * GIB
    assert settings.capacity == parse_size("50%")
    assert (settings.grace_s, settings.fence, settings.report_dir) == (2.5, FenceChoice.NONE, tmp_path)


def test_settings_cannot_be_changed_and_cross_a_pipe(tmp_path: Path) -> None:
    """Settings are frozen, compare by what is set and not by where, and pickle."""
    settings = load(tmp_path, {"MEMGUARD_GRACE": "5s"})
    assert settings == load(tmp_path)
    assert hash(settings) == hash(load(tmp_path))
    assert pickle.loads(pickle.dumps(settings)).origins == settings.origins
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.grace_s = 1.0  # type: ignore[misc]


@given(
    setting=st.sampled_from(SETTINGS),
    size_bytes=st.integers(1, 2**60),
    milliseconds=st.integers(1000, 10**9),
    percent=st.integers(1, 100),
    number=st.integers(0, 1000),
)
def test_a_shown_value_reads_back_as_itself(
    setting: Setting, size_bytes: int, milliseconds: int, percent: int, number: int
) -> None:
    """Whatever `memguard config` shows can be typed into a file and means the same."""
    for candidate in (
        f"{size_bytes}",
        f"{milliseconds}ms",
        f"{percent}%",
        f"{number}",
        setting.default,
        "some/dir",
    ):
        try:
            value = setting.parse(candidate)
        except ValueError:
            continue
        assert setting.parse(setting.show(value)) == value


def test_strange_variables_are_listed_and_harmless(tmp_path: Path) -> None:
    """An unknown MEMGUARD_ variable is no error; those that jobs get from memguard itself are not listed."""
    environ = {
        "MEMGUARD_MEMROY": "1GiB",
        "MEMGUARD_A": "",
        "MEMGUARD_JOB_ID": "x",
        "MEMGUARD_CONFIG": str(tmp_path / "x.toml"),
        "MEMGUARD_GRACE": "1s",
        "PATH": "/bin",
    }
    (tmp_path / "x.toml").touch()
    assert load(tmp_path, environ).grace_s == 1
    assert unknown_environment(environ) == ("MEMGUARD_A", "MEMGUARD_MEMROY")


def test_a_deleted_working_directory_is_one_without_files(tmp_path: Path) -> None:
    """Settings can be read in a process whose working directory is gone."""
    gone = tmp_path / "gone"
    gone.mkdir()
    program = (
        f"import os; os.rmdir({str(gone)!r}); from memguard.config import load_settings; "
        "print(load_settings(environ={}).origins['memory'])"
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=gone, env=environ, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("default\n", 0), done.stderr


def schema() -> object:
    text = importlib.resources.files("memguard").joinpath("schemas", "config-1.json").read_text()
    return json.loads(text)


@pytest.mark.requirement("U4")
def test_the_json_of_the_command_obeys_its_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`memguard config --json` prints one document of the committed schema, words apart on stderr."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "memguard.toml").write_text('memory = "3GiB"\nreport_dir = "reports"\n')
    environ = {"MEMGUARD_TIMEOUT": "90s", "MEMGUARD_TYPO": "1"}
    done = CliRunner().invoke(config_command, ["--json"], env=environ, catch_exceptions=False)
    document = json.loads(done.stdout)
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.Draft202012Validator(schema()).validate(document)
    lines = {line["name"]: line for line in document["settings"]}
    assert list(lines) == list(BY_NAME)
    assert (lines["memory"]["value"], lines["memory"]["unit"]) == (3 * GIB, "bytes")
    assert (lines["memory"]["text"], lines["memory"]["origin"]) == ("3GiB", "memguard.toml")
    assert (lines["timeout"]["value"], lines["timeout"]["unit"]) == (90, "s")
    assert (lines["warn_at"]["value"], lines["warn_at"]["unit"]) == (0.8, "fraction")
    assert (lines["capacity"]["value"], lines["capacity"]["text"]) == (None, "unset")
    assert document["unknown_environment"] == ["MEMGUARD_TYPO"]
    assert done.stderr == (
        "memguard: 'MEMGUARD_TYPO' is not a setting, and counts for nothing; see `memguard config`, or unset it\n"
    )


def test_the_schema_refuses_what_the_command_does_not_print() -> None:
    """The schema is tight: a missing or an invented key does not pass."""
    validator = jsonschema.Draft202012Validator(schema())
    document = {"schema": "memguard.config/1", "settings": [], "unknown_environment": []}
    assert not validator.is_valid(document)
    line = {
        "name": "a",
        "text": "",
        "value": 1,
        "unit": "s",
        "origin": "x",
        "default": "",
        "environment": "MEMGUARD_A",
        "help": "h",
    }
    assert validator.is_valid(document | {"settings": [line]})
    assert not validator.is_valid(document | {"settings": [line | {"colour": "red"}]})
    assert not validator.is_valid(document | {"settings": [{**line, "unit": "ms"}]})


def test_the_command_shows_every_setting_to_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`memguard config` prints one aligned line a setting: name, value, origin."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(config_command, [], env={"MEMGUARD_GRACE": "1500ms"}, catch_exceptions=False)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(BY_NAME)
    assert "grace 1.5s environment MEMGUARD_GRACE" in [" ".join(line.split()) for line in lines]


def test_a_bad_setting_reaches_the_one_place_for_exit_statuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command prints nothing half and lets the ConfigError go up."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(config_command, [], env={"MEMGUARD_GRACE": "soon"})
    assert isinstance(done.exception, ConfigError)
    assert done.stdout == ""
