"""Keeping secrets out of reports: arguments, environment and messages are shown with their secrets struck out.

A value is struck out when its name says secret, or when it looks like one (URL with a password, well-known token
shapes, a bearer header). Where a value ends cannot be known, so what follows a secret's name goes to the end of its
argument, its quotes or its line. This errs towards striking out; it cannot know every secret, and does not promise to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Final

__all__ = ["REDACTED", "redact_arguments", "redact_environment", "redact_error", "redact_text"]

REDACTED: Final = "[redacted]"
# An error may carry a whole table in its text, and a manager keeps many reports.
_LONGEST_ERROR: Final = 500
# Of a longer text this much is searched, and the end of it is not shown: a secret that the cut went through has no
# shape any more.
_SEARCHED: Final = 4000
_MARGIN: Final = 2000

# Names are compared in lower case, their parts joined by "_". Long words say secret wherever they stand (PGPASSWORD,
# authtoken); the short ones only as a part of their own: `auth`, but neither `author` nor `compass`.
_NAME: Final = re.compile(
    r"passw(?:or)?d|passphrase|passcode|pass(?:in|out)(?=_|$)|secret(?!ar)|token(?!i[sz])|credential|apikey|"
    r"authori[sz]ation|authentication|cookie(?!cutter)|signature|bearer|session_?id|connection_?string|"
    r"(?:api|access|private|secret|signing|encryption|account|master|client|shared|service|storage|deploy|session|"
    r"ssh|license|auth)_?keys?(?![a-z])|"
    r"(?<!com)(?<!by)(?<!tres)(?<!sur)pass(?=[_\d]|$)|"
    r"(?:^|_)(?:pw|pwd|o?auth|xauth|dsn|jwt|otp|creds?)(?=[_\d]|$)|(?:^|_)sig$"
)
_NOT_SECRET: Final = re.compile(
    r"^_*no_|"  # a switch
    r"(?:^|_)by_pass|pass_?through|(?:^|_)(?:first|second|third|one|two|single|multi|n|num|per)_pass(?:_|$)|"
    r"(?:^|_)(?:pad|eos|bos|unk|sep|cls|mask|oov|stop)_token(?:_id)?$|(?:^|_)token_type_ids$|"
    r"(?:^|_)(?:max|min|n|num|nr|total|new|prompt|completion|input|output|cached)_(?:[a-z]+_)*tokens$|"
    r"tokens_per_|"
    r"_(?:file|path|stdin|type|method|mode|count|length|limit|timeout)$|"  # it is elsewhere, or of what kind it is
    r"(?:error|exception|warning)$"
)
_FILE: Final = re.compile(r"\.(?:py|ipynb|json|ya?ml|toml|ini|cfg|txt|csv|parquet|log|so)$", re.IGNORECASE)

_WORD_START: Final = r"(?<![A-Za-z0-9])"
_SHAPES: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----[\s\S]*?(?:-----END [^-]*-----|\Z)", REDACTED),
        # user:password in a URL, up to the last "@" of the word: a password may hold one, and a slash too
        (r"(?<=://)[^\s/:@]{0,2048}:\S{0,2048}@", f"{REDACTED}@"),
        (r"(?i)(?<=https://)[^\s/:@?#]{1,2048}@", f"{REDACTED}@"),  # a token in the place of the user
        (r"(?i)(?<=http://)[^\s/:@?#]{1,2048}@", f"{REDACTED}@"),
        # the same without a scheme: user:password@host, and not an image with a tag, a digest or an address of mail
        (
            r"(?<![\w./+:-])(?!mailto:)([\w.+-]{1,64}):(?!//)[^\s@]{1,256}@(?=[\w(\[])(?!sha256:)",
            rf"\1:{REDACTED}@",
        ),
        (_WORD_START + r"(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}", REDACTED),  # AWS access key ids
        (_WORD_START + r"(?:gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,})", REDACTED),
        (_WORD_START + r"(?:sk|rk)[-_][A-Za-z0-9_-]{16,}", REDACTED),
        (_WORD_START + r"(?:xox[a-z]|xapp)-[A-Za-z0-9-]{10,}", REDACTED),  # Slack tokens
        (r"(?<=hooks\.slack\.com/services/)\S+", REDACTED),
        (_WORD_START + r"(?:AIza[\w-]{30,}|ya29\.[\w.-]{16,}|SG\.[\w-]{16,}\.[\w-]+)", REDACTED),
        (_WORD_START + r"(?:hf_|npm_|dckr_pat_|shpat_)[A-Za-z0-9_-]{16,}", REDACTED),
        (_WORD_START + r"(?:pypi-[\w-]{16,}|AGE-SECRET-KEY-[A-Z0-9]{16,}|dapi[0-9a-f]{32})", REDACTED),
        (_WORD_START + r"eyJ[\w-]{8,}(?:\.[\w-]*){2,4}", REDACTED),  # JSON web tokens
        (r"(?i)\b(bearer\s{1,8})[A-Za-z0-9._~+/=-]{8,}", rf"\1{REDACTED}"),
        # curl's user:password; two numbers are a user and a group
        (
            r"(?<![\w-])((?:-u|-U|--user|--proxy-user)(?:\s{1,8}|=|[\"'],\s{0,8}[\"']))(?!\d+:\d+(?:\s|$))"
            r"([^\s:'\"]{1,256}):[^\s'\"]+",
            rf"\1\2:{REDACTED}",
        ),
    )
)
# A name and what joins it to its value, never the value: that may hold a name of its own. Possessive, so that a long
# word is gone through once.
_NAMED: Final = re.compile(
    r"(?<![\w.-])(?P<name>(?:(?i:api|access|private|secret|signing|encryption) )?[\w.-]++)"
    r"(?P<join>[\"'\]\\)]*+\s*+(?:=>|:=|==?|:)\s*+|[\"']?(?:,\s*+|\s++))"
)
_QUOTED: Final = re.compile(
    r"(?P<quote>\"\"\"|'''|[\"'])(?:\\[\s\S]|(?!(?P=quote))[\s\S])*+(?P<end>(?P=quote)|\Z)[^\s,;:)\]}>&|]*+"
)
_REST_OF_LINE: Final = re.compile(r"[^\r\n]*")
_WORD: Final = re.compile(r"\S*")
_QUERY_VALUE: Final = re.compile(r"[^\s&#\"']*")
_SCHEME: Final = re.compile(r"(?:bearer|basic|digest|token|negotiate|apikey)[ ]+(?=\S)", re.IGNORECASE)
# Short flags that a password follows or is glued to, by the word that makes them mean it.
_PASSWORD_FLAGS: Final = {
    "7z": "-p",
    "curl": "-b",
    "ldapsearch": "-w",
    "login": "-p",
    "mariadb": "-p",
    "mysql": "-p",
    "mysqladmin": "-p",
    "mysqldump": "-p",
    "redis-cli": "-a",
    "sshpass": "-p",
    "unzip": "-P",
    "zip": "-P",
}
_USER_FLAGS: Final = frozenset({"-u", "-U", "--user", "--proxy-user"})
# `aws configure set aws_secret_access_key X`
_BARE_NAME: Final = re.compile(r"[A-Za-z]\w*_(?:password|secret|token|key)")
# What decides how a job uses memory; nothing else of the environment is recorded.
_RECORDED: Final = re.compile(
    r"^(?:MEMGUARD_|PYTHON|OMP_|OPENBLAS_|MKL_|NUMBA_|NUMEXPR_|MALLOC_|JOBLIB_|LOKY_|CUDA_VISIBLE|SLURM_|LD_PRELOAD$|TMPDIR$)"
)


def redact_text(text: str) -> str:
    """Strike secrets out of free text: known shapes, and what follows a name that says secret."""
    for shape, replacement in _SHAPES:
        text = shape.sub(replacement, text)
    return "".join(_strike_named(text))


def _strike_named(text: str) -> Iterator[str]:
    at = 0
    for named in _NAMED.finditer(text):
        if named.start() >= at and _introduces_secret(named):
            start = named.end() + _scheme_length(named, text)
            yield text[at:start]
            struck, at = _strike_value(named, text, start)
            yield struck
    yield text[at:]


def _introduces_secret(named: re.Match[str]) -> bool:
    """Whether a value that must not be shown follows: behind a mere space it belongs to a flag only."""
    return (_is_assigned(named) or named["name"].startswith("-")) and says_secret(named["name"])


def _is_assigned(named: re.Match[str]) -> bool:
    return named["join"].rstrip().endswith(("=", ":", "=>"))


def _scheme_length(named: re.Match[str], text: str) -> int:
    """Return how much of a header tells the kind of the secret, and not the secret."""
    if not named["name"].lower().endswith("authorization"):
        return 0
    scheme = _SCHEME.match(text, named.end())
    return len(scheme[0]) if scheme else 0


def _strike_value(named: re.Match[str], text: str, start: int) -> tuple[str, int]:
    """Return what stands for the value that starts at ``start``, and where it ends."""
    quoted = _QUOTED.match(text, start)
    if quoted is not None:
        return f"{quoted['quote']}{REDACTED}{quoted['end']}", quoted.end()
    in_query = text[max(0, named.start() - 1) : named.start()] in ("?", "&")
    ending = _QUERY_VALUE if in_query else _REST_OF_LINE if _is_assigned(named) else _WORD
    value = ending.match(text, start)
    end = value.end() if value else start
    return (REDACTED if end > start else ""), end


def says_secret(name: str) -> bool:
    """Whether the name of a value says that the value must not be shown."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[-. ]", "_", name).lower()
    return bool(_NAME.search(parts)) and not _NOT_SECRET.search(parts) and not _FILE.search(name)


def redact_error(error: BaseException) -> str:
    """Return one line of what was raised, cut to a length that a report can keep, secrets struck out."""
    try:
        text = str(error)
    except Exception as failure:  # noqa: BLE001 - its own __str__ may raise anything
        text = f"(its text cannot be had: {type(failure).__name__})"
    line = " ".join(redact_text(text[:_SEARCHED]).split())
    if len(text) > _SEARCHED:
        line = line[: max(0, len(line) - _MARGIN)]
    is_whole = len(text) <= _SEARCHED and len(line) <= _LONGEST_ERROR
    told = line if is_whole else f"{line[:_LONGEST_ERROR]}..."
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


def _redact_words(words: tuple[str, ...]) -> Iterator[str]:
    flags: set[str] = set()
    before = ""
    for word in words:
        if _value_follows(before, flags):
            yield REDACTED  # whatever it begins with: a password may begin with a dash
            # If it was a flag after all, its own value must not slip through.
            before = word if word.startswith("-") else ""
            continue
        flags |= {_PASSWORD_FLAGS[name] for name in (PurePath(word).name,) if name in _PASSWORD_FLAGS}
        yield _redact_word(word, before, flags)
        before = word


def _value_follows(word: str, flags: set[str]) -> bool:
    is_name = word.startswith("-") or _BARE_NAME.fullmatch(word) is not None
    return word in flags or (is_name and "=" not in word and ":" not in word and says_secret(word))


def _redact_word(word: str, before: str, flags: set[str]) -> str:
    user, colon, password = word.partition(":")
    names_user = before in _USER_FLAGS or word[:2] in _USER_FLAGS
    if names_user and colon and not (user.isdecimal() and password.isdecimal()):
        return f"{user}:{REDACTED}"
    if word[:2] in flags and len(word) > 2 and not word.startswith("--"):
        return f"{word[:2]}{REDACTED}"
    named = _NAMED.match(word)
    if named and named.end() < len(word) and _is_assigned(named) and says_secret(named["name"]):
        return f"{word[: named.end() + _scheme_length(named, word)]}{REDACTED}"
    return redact_text(word)


def redact_environment(environment: Mapping[str, str], *, mode: str = "auto") -> dict[str, str]:
    """Return the variables worth recording, secrets struck out; ``mode`` as in `redact_arguments`."""
    recorded = {name: value for name, value in sorted(environment.items()) if _RECORDED.match(name)}
    if mode == "none":
        return recorded
    if mode == "all":
        return dict.fromkeys(recorded, REDACTED)
    return {name: REDACTED if says_secret(name) else redact_text(value) for name, value in recorded.items()}
