"""Keeping secrets out of reports: arguments, environment and messages are shown with their secrets struck out.

A value is struck out when its name says secret, or when it looks like one (URL with a password, well-known token
shapes, a bearer header). This errs towards striking out; it cannot know every secret, and does not promise to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["REDACTED", "redact_arguments", "redact_environment", "redact_error", "redact_text"]

REDACTED: Final = "[redacted]"
# An error may carry a whole table in its text, and a manager keeps many reports.
_LONGEST_ERROR: Final = 500

_NAME: Final = re.compile(
    r"(?:pass(?:wd|word|phrase)?|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|credential|auth|cookie|"
    r"session[-_]?id|signature|\bsig\b|dsn|bearer|\bpw\b|\bpwd\b)",
    re.IGNORECASE,
)
_NOT_SECRET: Final = re.compile(
    r"^(?:--?)?(?:author|authors|pass-?through|bypass|tokenizer|tokenize)", re.IGNORECASE
)
_SHAPES: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)",  # user:password in a URL
        r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",  # AWS access key ids
        r"\bgh[pousr]_[A-Za-z0-9]{20,}\b",  # GitHub tokens
        r"\bsk-[A-Za-z0-9_-]{16,}\b",
        r"\bxox[abprs]-[A-Za-z0-9-]{10,}\b",  # Slack tokens
        r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",  # JSON web tokens
        r"(?i)(?<=bearer )[A-Za-z0-9._~+/=-]{8,}",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*",
    )
)
_ASSIGNMENT: Final = re.compile(r"""([\w.-]+)(["']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&'\"]+)""")
# What decides how a job uses memory; nothing else of the environment is recorded.
_RECORDED: Final = re.compile(
    r"^(?:MEMGUARD_|PYTHON|OMP_|OPENBLAS_|MKL_|NUMBA_|NUMEXPR_|MALLOC_|JOBLIB_|LOKY_|CUDA_VISIBLE|SLURM_|LD_PRELOAD$|TMPDIR$)"
)


def redact_text(text: str) -> str:
    """Strike secrets out of free text: known shapes, and ``name=value`` where the name says secret."""
    for shape in _SHAPES:
        text = shape.sub(REDACTED, text)
    return _ASSIGNMENT.sub(_strike_assignment, text)


def _strike_assignment(match: re.Match[str]) -> str:
    return f"{match[1]}{match[2]}{REDACTED}" if _says_secret(match[1]) else match[0]


def _says_secret(name: str) -> bool:
    return bool(_NAME.search(name)) and not _NOT_SECRET.match(name)


def redact_error(error: BaseException) -> str:
    """Return one line of what was raised, cut to a length that a report can keep, secrets struck out."""
    try:
        text = str(error)
    except Exception as failure:  # noqa: BLE001 - its own __str__ may raise anything
        text = f"(its text cannot be had: {type(failure).__name__})"
    # Struck out before it is cut: half a secret has no shape any more.
    line = redact_text(" ".join(text[: 4 * _LONGEST_ERROR].split()))
    told = line if len(line) <= _LONGEST_ERROR else f"{line[:_LONGEST_ERROR]}..."
    return f"{type(error).__qualname__}: {told}" if told else type(error).__qualname__


def redact_arguments(arguments: Iterable[str], *, mode: str = "auto") -> tuple[str, ...]:
    """Strike secrets out of a command line.

    Args:
        arguments: the words; ``--token X``, ``--token=X`` and values that look like secrets are struck out.
        mode: ``auto``; ``all`` keeps the first word only; ``none`` keeps everything.
    """
    words = tuple(arguments)
    if mode == "none":
        return words
    if mode == "all":
        return words[:1] + (REDACTED,) * (len(words) - 1)
    return tuple(_redact_words(words))


def _redact_words(words: tuple[str, ...]) -> Iterable[str]:
    secret_follows = False
    for word in words:
        if secret_follows and not word.startswith("-"):
            yield REDACTED
            secret_follows = False
            continue
        secret_follows = word.startswith("-") and "=" not in word and _says_secret(word)
        yield redact_text(word)


def redact_environment(environment: Mapping[str, str], *, mode: str = "auto") -> dict[str, str]:
    """Return the variables worth recording, secrets struck out; ``mode`` as in `redact_arguments`."""
    recorded = {name: value for name, value in sorted(environment.items()) if _RECORDED.match(name)}
    if mode == "none":
        return recorded
    if mode == "all":
        return dict.fromkeys(recorded, REDACTED)
    return {name: REDACTED if _says_secret(name) else redact_text(value) for name, value in recorded.items()}
