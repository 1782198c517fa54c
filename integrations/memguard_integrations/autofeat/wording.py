"""How a remedy is written: as a flag of the command, or as an argument in Python. Pure text.

A table in a file has a column that is the target and is told by flags; features and a target in memory are ``X`` and
``y``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from memguard.errors import DataError

__all__ = ["ARGUMENTS", "FLAGS", "Wording"]


class Wording(Protocol):
    """What differs between those who typed a command and those who called a function."""

    def setting(self, name: str, value: str) -> str:
        """Write a setting such as the task."""

    def columns(self, names: Sequence[str]) -> str:
        """Write a choice of columns."""

    def column(self, name: str, target: str) -> str:
        """Name a column, or the target, in a sentence about the whole table."""

    def target_error(self, source: str, target: str, problem: str, remedy: str) -> DataError:
        """Refuse the target.

        Args:
            source: the table.
            target: its column.
            problem: what the target is or has.
            remedy: what to do; another target is ``{another}``, followed by what it should be like.
        """


class _Flags:
    def setting(self, name: str, value: str) -> str:
        return f"--{name} {value}"

    def columns(self, names: Sequence[str]) -> str:
        text = ",".join(names)
        quoted = any(not (c.isalnum() or c in ",_.-") for c in text)
        return "choose the columns: --columns " + (f"'{text}'" if quoted else text)

    def column(self, name: str, target: str) -> str:
        return repr(name)

    def target_error(self, source: str, target: str, problem: str, remedy: str) -> DataError:
        remedy = remedy.format(another="name a column")
        return DataError(f"the target {target!r} {problem}", subject=source, remedy=remedy)


class _Arguments:
    def setting(self, name: str, value: str) -> str:
        return f'{name}="{value}"'

    def columns(self, names: Sequence[str]) -> str:
        return f"choose the columns: X[{list(names)!r}]"

    def column(self, name: str, target: str) -> str:
        return "y" if name == target else repr(name)

    def target_error(self, source: str, target: str, problem: str, remedy: str) -> DataError:
        return DataError(problem, subject="y", remedy=remedy.format(another="give a y"))


FLAGS: Wording = _Flags()
ARGUMENTS: Wording = _Arguments()
