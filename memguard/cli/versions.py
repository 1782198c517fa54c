"""Which versions are installed, and which of them are known not to work together.

Comes in: what the package metadata says; nothing is imported. Goes out: versions, and conflicts with their
remedy. Only conflicts that were seen to break are listed, not every bound that a package declares.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final

__all__ = ["Conflict", "find_conflicts", "installed_versions"]

_PACKAGES: Final = (
    "automl-memguard",
    "psutil",
    "autofeat",
    "scikit-learn",
    "numpy",
    "pandas",
    "pyarrow",
)
_STOCK: Final = "pip install 'automl-memguard[autofeat-stock]'"


@dataclass(frozen=True, slots=True)
class Conflict:
    """Versions that do not work together.

    Attributes:
        packages: their names.
        problem: what happens, with the versions.
        remedy: what to do, without a full stop.
    """

    packages: tuple[str, ...]
    problem: str
    remedy: str


def installed_versions() -> dict[str, str | None]:
    """Return Python's version and that of each package that matters, ``None`` for one that is not there."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def find_conflicts(versions: Mapping[str, str | None]) -> tuple[Conflict, ...]:
    """Return the known conflicts among versions; a package that is not installed conflicts with nothing."""
    return (*_autofeat_conflicts(versions), *_pyarrow_conflicts(versions))


def _autofeat_conflicts(versions: Mapping[str, str | None]) -> list[Conflict]:
    # 2.1.3 is the newest release; a later one may have mended any of these.
    if _release(versions, "autofeat") is None or _at_least(versions, "autofeat", 2, 1, 4):
        return []
    autofeat, found = f"autofeat {versions['autofeat']}", []
    for package, bound, what in (
        ("scikit-learn", (1, 8), "its transform and predict raise TypeError"),
        ("numpy", (2, 0), "it was made for numpy 1 and declares numpy<2"),
        ("pandas", (3, 0), "it was made for pandas 2 and declares pandas<3"),
        ("python", (3, 13), "it declares python<3.13"),
    ):
        if _at_least(versions, package, *bound):
            problem = f"{autofeat} with {package} {versions[package]}: {what}"
            found.append(Conflict(("autofeat", package), problem, _autofeat_remedy(package)))
    return found


def _autofeat_remedy(package: str) -> str:
    return "use Python 3.12 or 3.11 for it" if package == "python" else _STOCK


def _pyarrow_conflicts(versions: Mapping[str, str | None]) -> list[Conflict]:
    if _release(versions, "numpy") is None or _at_least(versions, "numpy", 2):
        return []
    if not _at_least(versions, "pyarrow", 26):
        return []
    problem = f"pyarrow {versions['pyarrow']} with numpy {versions['numpy']}: pyarrow refuses it at import"
    return [Conflict(("pyarrow", "numpy"), problem, "pip install 'pyarrow<26'")]


def _at_least(versions: Mapping[str, str | None], package: str, *bound: int) -> bool:
    release = _release(versions, package)
    return release is not None and release >= bound


def _release(versions: Mapping[str, str | None], package: str) -> tuple[int, ...] | None:
    """Return the leading numbers of a version, ``None`` for a package that is not there or has none."""
    match = re.match(r"\d+(?:\.\d+)*", versions.get(package) or "")
    return None if match is None else tuple(map(int, match[0].split(".")))
