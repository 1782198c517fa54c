"""Where settings are looked for, and who wins: flag > environment > file > default, setting by setting.

Files are looked for in the working directory only: ``memguard.toml``, then ``[tool.memguard]`` in
``pyproject.toml``. A limit must not change because some directory further up happens to hold a file. A
file elsewhere is named in ``MEMGUARD_CONFIG``; the working directory's files are then not read.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from memguard.config.kinds import show_duration, shown
from memguard.config.table import ENVIRONMENT_PREFIX, SETTINGS, UNSET, Setting, Settings
from memguard.errors import ConfigError

__all__ = [
    "CONFIG_VARIABLE",
    "INTERNAL_PREFIX",
    "describe_unknown",
    "load_settings",
    "unknown_environment",
]

CONFIG_VARIABLE: Final = "MEMGUARD_CONFIG"
# memguard tells its own children things through variables with this prefix; they are no settings.
INTERNAL_PREFIX: Final = "MEMGUARD_JOB_"
FILE_NAME: Final = "memguard.toml"
PROJECT_FILE_NAME: Final = "pyproject.toml"
# Far more than anybody writes; /dev/zero never ends.
_LARGEST_BYTES: Final = 4 << 20

_BY_NAME: Final = {setting.name: setting for setting in SETTINGS}
_VARIABLES: Final = tuple(setting.environment for setting in SETTINGS)


@dataclass(frozen=True, slots=True)
class _Layer:
    """Raw values of one place, by setting name; ``base`` is what its relative paths are relative to."""

    values: Mapping[str, object]
    origin: Callable[[Setting], str]
    base: Path | None = None


def load_settings(
    overrides: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    directory: Path | None = None,
) -> Settings:
    """Read every place a setting can be in.

    Args:
        overrides: flags by setting name, as a file would hold them, or as a `Size`, a choice, a path;
            ``None`` means not given.
        environ: where ``MEMGUARD_*`` variables are looked up.
        directory: where the files are looked for; ``None`` means the working directory.

    Raises:
        ConfigError: for an unknown setting, a value in none of the accepted forms, an unreadable file.
    """
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    layers = [
        _checked_names(_Layer(given, _flag_origin), "the flags"),
        _environment_layer(environ),
        *_file_layers(environ, directory or Path()),
    ]
    values, origins = {}, {}
    for setting in SETTINGS:
        values[setting.attribute], origins[setting.name] = _first_value(setting, layers)
    settings = Settings(**values, origins=origins)
    _check_intervals(settings)
    return settings


def unknown_environment(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the ``MEMGUARD_*`` variables that mean nothing to memguard, sorted.

    They are no error, since a job inherits variables that another version may know; they are worth
    showing, since one of them may be a typing error.
    """
    known = {CONFIG_VARIABLE, *_VARIABLES}
    return tuple(
        sorted(
            name
            for name in environ
            if name.startswith(ENVIRONMENT_PREFIX)
            and not name.startswith(INTERNAL_PREFIX)
            and name not in known
        )
    )


def describe_unknown(variable: str) -> str:
    """Return what to say of a variable that `unknown_environment` lists."""
    from difflib import get_close_matches  # noqa: PLC0415 - needed for a typing error only

    # Without what all have in common, which would make any two alike.
    known = [each.removeprefix(ENVIRONMENT_PREFIX) for each in (CONFIG_VARIABLE, *_VARIABLES)]
    near = get_close_matches(variable.removeprefix(ENVIRONMENT_PREFIX)[:100].upper(), known, n=1)
    hint = f"did you mean {ENVIRONMENT_PREFIX}{near[0]}?" if near else "see `memguard config`, or unset it"
    return f"{shown(variable)} is not a setting, and counts for nothing; {hint}"


def _first_value(setting: Setting, layers: list[_Layer]) -> tuple[Any, str]:
    for layer in layers:
        if setting.name in layer.values:
            origin = layer.origin(setting)
            return _parsed(setting, layer.values[setting.name], origin, layer.base), origin
    return setting.parse(setting.default), "default"


def _parsed(setting: Setting, raw: object, origin: str, base: Path | None) -> Any:
    try:
        value = setting.parse(raw)
    except ValueError as error:
        raise _bad_value(setting, origin, error) from None
    return base / value if base is not None and isinstance(value, Path) else value


def _bad_value(setting: Setting, origin: str, error: ValueError) -> ConfigError:
    # A flag is its own name, as in every other message on one.
    told = setting.flag if origin == _flag_origin(setting) else f"{setting.name} ({origin})"
    message = f"{told}: {error}"
    # A SizeSyntaxError names the forms itself, with a hint; the others leave it to this line.
    if setting.kind.forms not in message:
        message += f"; write {setting.kind.forms}"
    if setting.optional:
        message += f"; or {UNSET}"
    return ConfigError(message, setting=setting.name, origin=origin)


def _flag_origin(setting: Setting) -> str:
    return f"flag {setting.flag}"


def _environment_layer(environ: Mapping[str, str]) -> _Layer:
    values = {
        setting.name: environ[setting.environment] for setting in SETTINGS if setting.environment in environ
    }
    return _Layer(values, lambda setting: f"environment {setting.environment}")


def _file_layers(environ: Mapping[str, str], directory: Path) -> list[_Layer]:
    named = environ.get(CONFIG_VARIABLE)
    if named is not None:
        # Not Path.expanduser: it raises for an unknown ~user, where this leaves a name that is not found.
        path = Path(os.path.expanduser(named))
        return [_file_layer(path, f"{named} ({CONFIG_VARIABLE})", required=True)]
    return [_file_layer(directory / name, name) for name in (FILE_NAME, PROJECT_FILE_NAME)]


def _file_layer(path: Path, origin: str, *, required: bool = False) -> _Layer:
    """Read one file; a ``pyproject.toml`` gives its ``[tool.memguard]``, any other file all it holds."""
    values = _read_toml(path, origin, required=required)
    if path.name == PROJECT_FILE_NAME:
        origin += " [tool.memguard]"
        values = _subtable(_subtable(values, "tool", origin), "memguard", origin)
    return _checked_names(_Layer(values, lambda _: origin, path.parent), origin)


def _read_toml(path: Path, origin: str, *, required: bool) -> Mapping[str, object]:
    try:
        content = _read(path, named=required)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        if isinstance(error, FileNotFoundError) and not required:
            return {}
        raise _unreadable(origin, getattr(error, "strerror", None) or str(error)) from error
    return _decoded(content, origin)


def _read(path: Path, *, named: bool) -> bytes:
    # A pipe is read where somebody named it, as a shell's <(...) does; one that lies about would be waited for.
    kind = stat.S_IFMT(path.stat().st_mode)
    if not named and kind not in (stat.S_IFREG, stat.S_IFDIR):
        raise OSError(errno.EINVAL, "it is neither a file nor a link to one")
    with path.open("rb") as file:
        content = file.read(_LARGEST_BYTES + 1)
    if len(content) > _LARGEST_BYTES:
        raise OSError(errno.EFBIG, f"it is larger than {_LARGEST_BYTES >> 20} MiB")
    return content


def _decoded(content: bytes, origin: str) -> Mapping[str, object]:
    import tomllib  # noqa: PLC0415 - most processes have no file, and its import costs milliseconds

    try:
        return tomllib.loads(content.decode())
    except RecursionError as error:
        raise _no_toml(origin, "its values are nested too deeply") from error
    except ValueError as error:  # no TOML, no UTF-8, or a number of more digits than Python takes
        raise _no_toml(origin, str(error)) from error


def _no_toml(origin: str, why: str) -> ConfigError:
    return ConfigError(
        f"{origin} cannot be read as TOML ({why}); correct that place, or move the file away",
        setting="",
        origin=origin,
    )


def _unreadable(origin: str, why: str) -> ConfigError:
    return ConfigError(
        f"{origin} cannot be read ({why}); correct it or move it away", setting="", origin=origin
    )


def _subtable(table: Mapping[str, object], name: str, origin: str) -> Mapping[str, object]:
    inner = table.get(name, {})
    if not isinstance(inner, Mapping):
        raise ConfigError(f"{name!r} in {origin} is not a table", setting=name, origin=origin)
    return inner


def _checked_names(layer: _Layer, origin: str) -> _Layer:
    for name in layer.values:
        if name not in _BY_NAME:
            raise ConfigError(
                f"{shown(name)} in {origin} is not a setting; {_suggestion(name)}",
                setting=name,
                origin=origin,
            )
    return layer


def _suggestion(name: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - needed for a typing error only

    near = get_close_matches(name[:100].lower().replace("-", "_"), _BY_NAME, n=1)
    return f"did you mean {near[0]!r}?" if near else f"the settings are {', '.join(_BY_NAME)}"


def _check_intervals(settings: Settings) -> None:
    shortest, longest = settings.sample_interval_min_s, settings.sample_interval_max_s
    if shortest <= longest:
        return
    origins = settings.origins
    raise ConfigError(
        f"sample_interval_min = {show_duration(shortest)} ({origins['sample_interval_min']}) is longer than "
        f"sample_interval_max = {show_duration(longest)} ({origins['sample_interval_max']}); "
        "make it the shorter one, or equal",
        setting="sample_interval_min",
        origin=origins["sample_interval_min"],
    )
