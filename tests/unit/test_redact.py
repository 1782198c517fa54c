"""Secrets stay out of reports: by their names and by their shapes, and what is none stays readable."""

from __future__ import annotations

import json
import time

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
        ("-----BEGIN PGP PRIVATE KEY BLOCK-----\nMIIE\nabc", "MIIE"),
        ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "dXNl"),
        ("Authorization: token abcdef", "abcdef"),
        ('Authorization: Digest username="me", response="hunter2"', "hunter2"),
        ("Cookie: sid=AAA; tok=hunter2", "hunter2"),
        ("https://u:p@hunter2@h/x", "hunter2"),
        ("https://u:p/hunter2@h/x", "hunter2"),
        ("https://u:p'hunter2@h/x", "hunter2"),
        ("https://hunter2@sentry.example/1", "hunter2"),
        ("connect to scott:hunter2@db", "hunter2"),
        ("https://x/y?sig=hunter2&rows=3", "hunter2"),
        ("PASSWORD=two hunter2", "hunter2"),
        ("--db-password=aaa,hunter2", "hunter2"),
        ("Server=x;Pwd=a;hunter2", "hunter2"),
        ("AccountName=x;AccountKey=hunter2==", "hunter2"),
        ("PGPASSWORD=hunter2", "hunter2"),
        ("AWS_SECRET_ACCESS_KEY=hunter2", "hunter2"),
        ("os.environ['API_KEY'] = 'hunter2'", "hunter2"),
        ("API key: hunter2", "hunter2"),
        ('password="a\\" hunter2"', "hunter2"),
        ('password="""a" hunter2"""', "hunter2"),
        ('password="a hunter2', "hunter2"),
        ("password='a'hunter2", "hunter2"),
        ("config=token:hunter2", "hunter2"),
        ("Command '['x', '--token', 'hunter2']' failed", "hunter2"),
        ("curl -u me:hunter2 x", "hunter2"),
        (f"x_{GITHUB}_y", GITHUB),
        ("github_pat_" + "a1B2" * 8, "a1B2"),
        ("glpat-" + "a1B2" * 5, "a1B2"),
        ("hf_" + "a1B2" * 8, "a1B2"),
        ("AIza" + "a1B2" * 9, "a1B2"),
        ("sk_live_" + "a1B2" * 5, "a1B2"),
        (f"{KEY}x", KEY),
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
        "tokenizer=bert, max_tokens=5, n_tokens: 3, tokens_per_s=2, pad_token='<pad>'",
        "keyboard: 3, monkey=4, sort_keys=True, key=len, first_pass=2, compass: N, bypass=1",
        "authors: A, B; authority=x; XAUTHORITY=/x",
        "tokens.py:12: no such line",
        "KeyError: 'token'",
        "TokenError: at line 3",
        "PASSWORD_FILE=/run/x",
        "git+https://example.org/a.git@v1 http://h:80/x python:3.11@sha256:ab",
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
        (["cmd", "--password", "--verbose"], ("cmd", "--password", REDACTED)),
        (["cmd", "--api-key", "-abc123"], ("cmd", "--api-key", REDACTED)),
        (["cmd", "--password", "--token", "abc"], ("cmd", "--password", REDACTED, REDACTED)),
        (["cmd", "--authorization", "abc"], ("cmd", "--authorization", REDACTED)),
        (["cmd", "--authorization=abc"], ("cmd", f"--authorization={REDACTED}")),
        (["env", "PASSWORD=two words"], ("env", f"PASSWORD={REDACTED}")),
        (["env", "PASSWORD=two\nlines"], ("env", f"PASSWORD={REDACTED}")),
        (["cmd", "--db-password=aaa,bbb", "x"], ("cmd", f"--db-password={REDACTED}", "x")),
        (["cmd", "--opt=token=abc"], ("cmd", f"--opt=token={REDACTED}")),
        (["java", "-DtrustStorePassword=abc"], ("java", f"-DtrustStorePassword={REDACTED}")),
        (["curl", "-H", "X-Api-Key: a b"], ("curl", "-H", f"X-Api-Key: {REDACTED}")),
        (["curl", "-HProxy-Authorization: abc"], ("curl", f"-HProxy-Authorization: {REDACTED}")),
        (["curl", "-b", "sid=AAA; tok=BBB"], ("curl", "-b", REDACTED)),
        (["curl", "-u", "me:a:b c"], ("curl", "-u", f"me:{REDACTED}")),
        (["curl", "-ume:abc"], ("curl", f"-ume:{REDACTED}")),
        (["curl", "--user=me:abc"], ("curl", f"--user=me:{REDACTED}")),
        (["docker", "run", "-u", "1000:100", "-p", "1:2"], ("docker", "run", "-u", "1000:100", "-p", "1:2")),
        (["/usr/bin/mysql", "-pabc", "db"], ("/usr/bin/mysql", f"-p{REDACTED}", "db")),
        (["docker", "login", "-p", "abc", "host"], ("docker", "login", "-p", REDACTED, "host")),
        (["docker", "login", "--password-stdin", "host"], ("docker", "login", "--password-stdin", "host")),
        (["aws", "set", "aws_secret_access_key", "abc"], ("aws", "set", "aws_secret_access_key", REDACTED)),
        (["sh", "-c", "x --token abc --rows 3"], ("sh", "-c", f"x --token {REDACTED} --rows 3")),
        (["cmd", '{"password": "a b", "rows": 3}'], ("cmd", f'{{"password": "{REDACTED}", "rows": 3}}')),
        (["cmd", "--max-tokens", "5", "--sort-keys"], ("cmd", "--max-tokens", "5", "--sort-keys")),
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


SECRET_NAMES = st.sampled_from(
    [
        "password",
        "DB_PASSWORD",
        "db.passwd",
        "token",
        "hf-token",
        "clientSecret",
        "X-Api-Key",
        "Authorization",
        "Proxy-Authorization",
        "Set-Cookie",
        "AWS_SECRET_ACCESS_KEY",
        "auth",
        "dbpass",
        "jwt",
    ]
)
# A mark that occurs nowhere else, with anything around it.
SECRETS = st.tuples(st.text(max_size=20), st.text(max_size=20)).map("zqhunter2qz".join)


@given(SECRET_NAMES, SECRETS, st.sampled_from(["=", ": ", ":"]), st.sampled_from(["", "-", "--"]))
def test_no_part_of_an_argument_behind_a_secret_name_is_shown(
    name: str, secret: str, join: str, dashes: str
) -> None:
    """Whatever the value is made of: dashes, quotes, commas, spaces, lines."""
    shown = redact_arguments(["cmd", f"{dashes}{name}{join}{secret}", "rest"])
    assert "hunter2" not in "".join(shown)
    assert shown[2] == "rest"


@given(SECRET_NAMES, SECRETS)
def test_no_argument_behind_a_secret_flag_is_shown(name: str, secret: str) -> None:
    """The value as an argument of its own is struck out whole."""
    assert redact_arguments(["cmd", f"--{name}", secret]) == ("cmd", f"--{name}", REDACTED)


@given(SECRET_NAMES, SECRETS)
def test_no_line_behind_a_secret_name_is_shown(name: str, secret: str) -> None:
    """In free text a value goes on to the end of its line or its quotes, in Python's and in JSON's way."""
    line = "".join(secret.split())
    if line[:1] not in ("'", '"'):
        assert "hunter2" not in redact_text(f"it said {name}={line} and more")
    assert "hunter2" not in redact_text(json.dumps({name: secret, "rows": 3}))
    assert "hunter2" not in redact_text(repr({name: secret, "rows": 3}))


@given(st.text("abcXYZ019_.,;:!$%&*()+=~@/-'\"", max_size=20))
def test_no_password_of_an_address_is_shown(password: str) -> None:
    """A password in a URL may hold anything but a space, the signs that divide a URL too."""
    assert "hunter2" not in redact_text(f"postgres://me:{password}hunter2@db.example/x failed")


@pytest.mark.parametrize(
    "part", ["a", "a ", "://", "a:", "password='", "'\\", "bearer ", "a:b@", "-u a", " "]
)
def test_a_huge_argument_is_gone_through_quickly(part: str) -> None:
    """A word of 100 kB, whatever it repeats, takes no time that grows with its square."""
    began_s = time.process_time()
    redact_arguments([part * (100_000 // len(part))])
    assert time.process_time() - began_s < 2


def test_no_secret_slips_through_where_a_text_is_cut() -> None:
    """What was shortened before the cut, by blanks or by striking out, brings no half of a secret into view."""
    for filler in (" " * 3975, f"password='{'x' * 3950}' "):
        for shift in range(20):
            line = redact_error(ValueError("y" * shift + filler + f"{KEY} rest " + "x" * 100))
            assert "AKIA" not in line


@given(st.text(max_size=300))
def test_striking_out_never_fails(text: str) -> None:
    """Any text can be struck through, and doing it twice changes nothing more that matters."""
    once = redact_text(text)
    assert redact_text(once) == once
    redact_arguments(text.split(" "))
