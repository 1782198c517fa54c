"""Secrets stay out of reports: by their names and by their shapes, and what is none stays readable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.redact import REDACTED, redact_arguments, redact_environment, redact_error, redact_text

KEY = "AKIAIOSFODNN7EXAMPLE"
GITHUB = "ghp_" + "a1B2" * 8
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-def_123"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("postgres://user:hunter2@db.example/x", "hunter2"),
        ("https://:hunter2@db.example/x", "hunter2"),
        (f"key {KEY} used", KEY),
        (f"git clone with {GITHUB}", GITHUB),
        (f"Authorization: Bearer {TOKEN}", TOKEN),
        ("authorization: bearer abcdef123456", "abcdef123456"),
        ("sk-proj-abcdefghijklmnop1234", "sk-proj"),
        ("xoxb-1234567890-abcdef", "xoxb"),
        ("password=hunter2", "hunter2"),
        ("DB_PASSWORD: 'hunter 2'", "hunter"),
        ('{"api_key": "hunter2"}', "hunter2"),
        ("token = hunter2, rows = 3", "hunter2"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc", "MIIE"),
    ],
)
def test_a_secret_in_a_text_is_struck_out(text: str, secret: str) -> None:
    """Passwords in addresses, well-known tokens, and values whose name says secret."""
    assert secret not in redact_text(text)
    assert REDACTED in redact_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "fit --steps 2 --target arr_delay data.csv",
        "author=Shakespeare",
        "--tokenizer=bert",
        "https://example.org/a?b=c",
        "ratio: 0.5, rows = 3",
        "C:/Users/x",
        "",
    ],
)
def test_a_text_without_a_secret_is_unchanged(text: str) -> None:
    """Ordinary words stay as they are, near misses too."""
    assert redact_text(text) == text


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["cmd", "--token", "abc", "--rows", "3"], ("cmd", "--token", REDACTED, "--rows", "3")),
        (["cmd", "--api-key=abc", "x"], ("cmd", f"--api-key={REDACTED}", "x")),
        (["cmd", "--password", "--verbose"], ("cmd", "--password", "--verbose")),
        (["cmd", "--author", "me"], ("cmd", "--author", "me")),
        (
            ["curl", "-H", "Authorization: Bearer abcdef123456"],
            ("curl", "-H", f"Authorization: Bearer {REDACTED}"),
        ),
        ([], ()),
    ],
)
def test_arguments_are_struck_out_word_by_word(words: list[str], shown: tuple[str, ...]) -> None:
    """A value after its flag, behind its ``=``, or inside a word; flags and the rest stay."""
    assert redact_arguments(words) == shown


def test_modes_of_arguments() -> None:
    """``none`` shows everything, ``all`` nothing but the command."""
    words = ["cmd", "--token", "abc"]
    assert redact_arguments(words, mode="none") == ("cmd", "--token", "abc")
    assert redact_arguments(words, mode="all") == ("cmd", REDACTED, REDACTED)


def test_the_environment_is_cut_to_what_explains_memory_use() -> None:
    """Only variables of allocators, thread pools and memguard are kept, and of them no secret."""
    environment = {
        "OMP_NUM_THREADS": "4",
        "MEMGUARD_MEMORY": "80%",
        "PYTHONPATH": "/x",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "HOME": "/root",
        "JOBLIB_TOKEN": "hunter2",
        "PYTHONSTARTUP": "https://u:hunter2@x/y",
    }
    kept = redact_environment(environment)
    assert kept == {
        "JOBLIB_TOKEN": REDACTED,
        "MEMGUARD_MEMORY": "80%",
        "OMP_NUM_THREADS": "4",
        "PYTHONPATH": "/x",
        "PYTHONSTARTUP": f"https://{REDACTED}@x/y",
    }
    assert list(kept) == sorted(kept)
    assert set(redact_environment(environment, mode="all").values()) == {REDACTED}
    assert redact_environment(environment, mode="none")["JOBLIB_TOKEN"] == "hunter2"


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not now")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("bad rows"), "ValueError: bad rows"),
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError(), "ValueError"),
        (ValueError("two\n  lines"), "ValueError: two lines"),
        (
            ConnectionError("postgres://u:hunter2@db failed"),
            f"ConnectionError: postgres://{REDACTED}@db failed",
        ),
        (UnprintableError(), "UnprintableError: (its text cannot be had: RuntimeError)"),
    ],
)
def test_an_error_is_one_line(error: Exception, line: str) -> None:
    """Type and text, on one line, without secrets, whatever its text is like."""
    assert redact_error(error) == line


def test_a_long_error_is_cut_and_no_secret_with_it() -> None:
    """A table in an error's text is cut; a secret at the cut is struck out before."""
    assert len(redact_error(ValueError("x" * 10_000_000))) < 600
    for length in range(470, 505):
        line = redact_error(ValueError("x" * length + f" {KEY} rest"))
        assert "AKIA" not in line, length


@given(st.text(max_size=300))
def test_striking_out_never_fails(text: str) -> None:
    """Any text can be struck through, and doing it twice changes nothing more that matters."""
    once = redact_text(text)
    assert isinstance(redact_text(once), str)
    redact_arguments(text.split(" "))
