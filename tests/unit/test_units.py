"""Sizes and durations: every accepted form, every refused one, and what holds for all of them."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memguard.errors import DurationSyntaxError, SizeSyntaxError
from memguard.units import (
    GIB,
    KIB,
    MIB,
    Size,
    format_bytes,
    format_duration,
    format_setting,
    format_share,
    parse_bytes,
    parse_duration,
    parse_size,
)

LARGEST_BYTES = 2**60
# Text made of the characters that sizes and durations are made of goes deeper than any text at all.
NEARLY_SIZES = st.text(alphabet="0123456789.%+-eEkKmMgGtTpPiIbB \tK", max_size=20)
NEARLY_DURATIONS = st.text(alphabet="0123456789.-emshd \t", max_size=20)


@pytest.mark.parametrize(
    ("text", "expected_bytes"),
    [
        ("4GiB", 4 * GIB),
        ("4GB", 4 * 10**9),
        ("4G", 4 * GIB),
        ("4g", 4 * GIB),
        ("4Gi", 4 * GIB),
        ("4gib", 4 * GIB),
        ("4 GiB", 4 * GIB),
        (" 4GiB\n", 4 * GIB),
        ("512M", 512 * MIB),
        ("1.5GiB", 1536 * MIB),
        ("0.1KiB", 102),
        ("8kB", 8000),
        ("1TB", 10**12),
        ("1PiB", 1024 * 1024 * GIB),
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("0009", 9),
        ("1152921504606846975", LARGEST_BYTES - 1),
        ("9007199254740993B", 2**53 + 1),
        (4096, 4096),
        (LARGEST_BYTES, LARGEST_BYTES),
    ],
)
def test_an_absolute_size_is_read_exactly(text: str | int, expected_bytes: int) -> None:
    """Each form of an absolute size means the same bytes everywhere, to the last one."""
    assert parse_size(text).absolute_bytes == expected_bytes
    assert parse_bytes(text) == expected_bytes


@pytest.mark.parametrize(("text", "fraction"), [("80%", 0.8), ("0%", 0.0), ("100%", 1.0), ("12.5 %", 0.125)])
def test_a_percentage_stays_a_share_until_the_capacity_is_known(text: str, fraction: float) -> None:
    """A percentage is a share of a capacity, never a number of bytes."""
    size = parse_size(text)
    assert size.absolute_bytes is None
    assert size.fraction == pytest.approx(fraction)
    assert parse_bytes(text, capacity_bytes=1000) == int(1000 * fraction)
    with pytest.raises(SizeSyntaxError, match="a percentage has no meaning here"):
        parse_bytes(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "max",
        "∞",
        "-1GiB",
        "-1",
        "+1GiB",
        "0.8",
        "1e9",
        "4 bananas",
        "4GiBs",
        "4Gb/s",
        "4  GiB",
        "4.GiB",
        ".5GiB",
        "4,5GiB",
        "٤GiB",
        "4\u212aB",
        "nan",
        "inf",
        "101%",
        "-5%",
        "1025PiB",
        "9" * 5000,
        "9" * 400 + "G",
        "0." + "9" * 400 + "G",
        -1,
        10**5000,
        True,
        0.8,
        None,
        b"4GiB",
    ],
    ids=lambda value: "huge number" if isinstance(value, int) and value > LARGEST_BYTES else repr(value)[:20],
)
def test_anything_else_is_refused_with_the_accepted_forms(text: object) -> None:
    """What is no size raises SizeSyntaxError, whose short message names the forms."""
    with pytest.raises(SizeSyntaxError, match="4GiB, 4Gi, 4G") as caught:
        parse_size(text)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(("text", "hint"), [("0.8", "80%"), ("1.0", "100%"), ("0.125", "12.5%")])
def test_a_bare_fraction_is_answered_with_the_percentage_that_was_meant(text: str, hint: str) -> None:
    """A fraction of 1 or less is most likely a share, and the error says how to write it."""
    with pytest.raises(SizeSyntaxError, match=f"did you mean {hint}\\?") as caught:
        parse_size(text)
    assert caught.value.text == text


def test_a_numpy_integer_is_a_size() -> None:
    """Sizes computed with NumPy are whole numbers like any other."""
    numpy = pytest.importorskip("numpy")
    assert parse_bytes(numpy.int64(5 * GIB)) == 5 * GIB


def test_a_parsed_size_passes_through() -> None:
    """Parsing twice changes nothing, so every function may parse what it is given."""
    size = parse_size("80%")
    assert parse_size(size) is size
    assert size.resolve(10 * GIB) == 8 * GIB
    assert Size("4GiB", 4 * GIB, None).resolve(1) == 4 * GIB


@given(count=st.integers(0, LARGEST_BYTES // 2))
@example(count=MIB - 1)
@example(count=GIB - 1)
@example(count=GIB + 1)
@example(count=int(1.05 * GIB))
def test_a_written_setting_reads_back_as_enough_and_hardly_more(count: int) -> None:
    """A recommended setting is never too small, and at most 10 % (or one KiB) too large."""
    read = parse_bytes(format_setting(count))
    assert count <= read <= max(count * 1.1, count + KIB)


def test_a_refused_size_is_told_as_it_was_given() -> None:
    """The error's text is what was given, with the spaces around it, wherever the size was refused."""
    for text in (" 1030P\r", " 5 apples ", " 0.5 "):
        with pytest.raises(SizeSyntaxError) as caught:
            parse_size(text)
        assert caught.value.text == text


@given(text=st.text() | NEARLY_SIZES)
def test_no_text_crashes_the_size_parser(text: str) -> None:
    """Any text gives a size within bounds or SizeSyntaxError, and nothing else."""
    try:
        size = parse_size(text)
    except SizeSyntaxError as error:
        assert error.text == text  # noqa: PT017 - the error is one of the two allowed endings
    else:
        assert 0 <= size.resolve(LARGEST_BYTES) <= LARGEST_BYTES


@given(number=st.integers(0, 10**6), unit=st.sampled_from(["KiB", "kB", "MiB", "MB", "GiB", "GB", "K", "Mi"]))
def test_case_and_a_space_change_nothing(number: int, unit: str) -> None:
    """A unit means the same in small and capital letters, with or without a space before it."""
    meanings = {
        parse_bytes(f"{number}{space}{form}")
        for space in ("", " ")
        for form in (unit, unit.lower(), unit.upper())
    }
    assert len(meanings) == 1


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (MIB - 1, "1 MiB"),
        (512 * MIB, "512 MiB"),
        (int(1.44 * GIB), "1.4 GiB"),
        (-3 * MIB, "-3 MiB"),
        (2**60, "1024 PiB"),
    ],
)
def test_bytes_are_written_for_people(count: int, text: str) -> None:
    """Bytes for people have an IEC unit, at most one decimal, and never read 1024 of a unit but the last."""
    assert format_bytes(count) == text


@given(count=st.integers(0, LARGEST_BYTES // 2))
def test_written_bytes_read_back_within_their_rounding(count: int) -> None:
    """What people are shown is the true figure within half of its last decimal, and can be typed back."""
    assert parse_bytes(format_bytes(count)) == pytest.approx(count, rel=0.051)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("30s", 30.0),
        ("5m", 300.0),
        ("4h", 14400.0),
        ("1d", 86400.0),
        ("1h30m", 5400.0),
        ("1.5s", 1.5),
        ("0", 0.0),
        ("30", 30.0),
        (" 2.5 ", 2.5),
        (30, 30.0),
        (0.25, 0.25),
    ],
)
def test_a_duration_is_read_in_seconds(text: str | float, seconds: float) -> None:
    """Each form of a duration means the same seconds everywhere."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "-1",
        "-1s",
        "5 m",
        "5M",
        "1h 30m",
        "s",
        "1e3",
        "nan",
        "inf",
        "9" * 400,
        "9" * 400 + "s",
        "101 years",
        "40000d",
        "٣s",
        math.nan,
        math.inf,
        -0.5,
        10**400,
        10**5000,
        True,
        None,
    ],
    ids=lambda value: "huge number" if isinstance(value, int) and value > 10**9 else repr(value)[:20],
)
def test_anything_else_is_no_duration(text: object) -> None:
    """What is no duration raises DurationSyntaxError, whose short message names the forms."""
    with pytest.raises(DurationSyntaxError, match="250ms, 30s, 5m") as caught:
        parse_duration(text)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 150


@given(value=st.text() | NEARLY_DURATIONS | st.floats() | st.integers())
def test_nothing_crashes_the_duration_parser(value: str | float) -> None:
    """Any text or number gives seconds that are finite and not negative, or DurationSyntaxError."""
    try:
        seconds = parse_duration(value)
    except DurationSyntaxError:
        return
    assert math.isfinite(seconds)
    assert seconds >= 0


@given(
    milliseconds=st.integers(0, 10**12),
    unit=st.sampled_from([("ms", 1), ("s", 1000), ("m", 60000), ("h", 3600000)]),
)
def test_a_duration_is_its_number_times_its_unit(milliseconds: int, unit: tuple[str, int]) -> None:
    """A number in any unit is that many milliseconds."""
    name, factor = unit
    assert parse_duration(f"{milliseconds // factor}{name}") == pytest.approx(
        milliseconds // factor * factor / 1000
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.25, "250 ms"),
        (0.9996, "1.0 s"),
        (4.2, "4.2 s"),
        (59.96, "1 min 0 s"),
        (125, "2 min 5 s"),
        (3599.7, "1 h 0 min"),
        (11220, "3 h 7 min"),
    ],
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    """Durations for people roll over into the next unit instead of showing 60 of the smaller one."""
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("fraction", "shown"),
    [
        (0, "0%"),
        (0.0004, "<0.1%"),
        (0.00506, "0.5%"),
        (0.05, "5%"),
        (0.0994, "9.9%"),
        (0.09996, "10%"),
        (0.104, "10%"),
        (0.84, "84%"),
        (0.996, "99.6%"),
        (0.99999, "99.9%"),
        (1, "100%"),
        (1.004, "100%"),
        (3.2, "320%"),
    ],
)
def test_a_share_is_not_rounded_to_none_or_all(fraction: float, shown: str) -> None:
    """A small share keeps a decimal, and only none is 0% and only all of it 100%."""
    assert format_share(fraction) == shown
