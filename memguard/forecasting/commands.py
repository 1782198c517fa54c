"""What tells one run of a command from another: program, script and options, and the sizes of the files it names.

Comes in: a command line. Goes out: a `Likeness`. Numbers are features by the name of their option; files count by
their bytes, folders by those of their files; words without digits are part of what is run, other words are names that
differ from run to run (ids, dates) and do not count.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from memguard.estimate.likeness import Likeness
from memguard.forecasting.worlds import world_of_program
from memguard.redact import REDACTED, redact_arguments
from memguard.sizing import TAKEN

__all__ = ["likeness_of_command"]

_MOST_FILES: Final = 1000
# Of a folder of millions that lies on a network; a local one tells so many in some hundredths of a second.
_MOST_NAMES: Final = 10_000
_MOST_NUMBERS: Final = 12
_LONGEST_WORD: Final = 80
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_OPTION: Final = re.compile(r"(--?[A-Za-z][\w.-]*)(?:=(.*))?", re.DOTALL)
_INTERPRETERS: Final = re.compile(r"(?:python|pypy|perl|ruby|node|Rscript|bash|sh|dash|zsh)[\d.]*")
_SCRIPT_ENDINGS: Final = (".py", ".R", ".r", ".sh", ".pl", ".rb", ".js", ".ipynb")


@dataclass(slots=True)
class _Found:
    """What was found on a command line so far."""

    words: list[str] = field(default_factory=list)
    numbers: dict[str, float] = field(default_factory=dict)
    input_bytes: int = 0
    files: int = 0


def likeness_of_command(command: Sequence[str], *, redact: str = "auto") -> Likeness:
    """Return what tells a run of a command from others; never raises.

    Args:
        command: the program and its arguments.
        redact: as the setting. With ``all`` no argument can be read in the kind or the features: words are told apart
            by a checksum, files by their sizes, and numbers do not count.
    """
    program = shutil.which(command[0]) or command[0] if command else ""
    found = _Found([os.path.basename(program)])
    option = ""
    is_script_due = _INTERPRETERS.fullmatch(os.path.basename(program)) is not None
    # What is secret is no part of what a run is told by.
    for word in redact_arguments(command)[1:]:
        matched = _OPTION.fullmatch(word)
        if matched is not None:
            option = matched[1]
            found.words.append(option)
            is_script_due = is_script_due and option not in ("-c", "-m")
            if matched[2] is not None:
                _take(found, option, matched[2])
                option = ""
        elif is_script_due or (option == "-m" and len(found.words) == 2) or option == "-c":
            found.words.append(_script(word, option))
            is_script_due, option = False, ""
        else:
            _take(found, option, word)
            option = ""
    features = dict(found.numbers) if redact != "all" else {}
    if redact == "all":
        found.words[1:] = [_sum_of("\0".join(found.words[1:]))]
    if found.files:
        features |= {"input_bytes": float(found.input_bytes), "files": float(found.files)}
    return Likeness(" ".join(found.words)[:1000], features, world_of_program(os.path.abspath(program)))


def _script(word: str, option: str) -> str:
    """Return a script by its path, a module by its name, and a program that was written out by its sum."""
    if option == "-c":
        return _sum_of(word)
    return word if option == "-m" else os.path.realpath(word)


def _sum_of(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]


def _take(found: _Found, option: str, value: str) -> None:
    """Count a value for what it is: a number, a file or folder, a script, a choice."""
    if _NUMBER.fullmatch(value):
        _take_number(found, option, float(value))
    elif value.endswith(_SCRIPT_ENDINGS) and os.path.isfile(value):
        found.words.append(os.path.realpath(value))
    elif (sizes := list(_sizes(value))) or os.path.sep in value:
        found.input_bytes += sum(sizes)
        found.files += len(sizes)
    elif value != REDACTED and len(value) <= _LONGEST_WORD and not any(each.isdigit() for each in value):
        found.words.append(value)


def _take_number(found: _Found, option: str, number: float) -> None:
    name = option.lstrip("-") or f"number {len(found.numbers)}"
    name = f"option {name}" if name in TAKEN else name
    if number <= 1e300 and len(found.numbers) < _MOST_NUMBERS:
        found.numbers[name] = number


def _sizes(path: str) -> Iterator[int]:
    """Yield the sizes of a file, or of the files of a folder and of those below it."""
    try:
        if os.path.isfile(path):
            yield os.stat(path).st_size
        elif os.path.isdir(path):
            yield from _sizes_below(path)
    except (OSError, ValueError):  # it went away, or is no path at all: then it counts for nothing
        return


def _sizes_below(folder: str) -> Iterator[int]:
    for each in islice(_files_below(folder), _MOST_FILES):
        yield each.stat(follow_symlinks=False).st_size


def _files_below(folder: str) -> Iterator[os.DirEntry[str]]:
    """Yield files, those of a folder first; looks at so many names and no more, for a command waits for it."""
    places, left = [folder], _MOST_NAMES
    while places and left:
        inner = []
        with (
            suppress(OSError),
            os.scandir(places.pop()) as found,
        ):  # one that may not be read counts for nothing
            for each in islice(found, left):
                left -= 1
                if each.is_dir(follow_symlinks=False):
                    inner.append(each.path)
                else:
                    yield each
        places += reversed(inner)
