"""Names: which columns were meant, and what sympy can call them."""

from __future__ import annotations

import keyword

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.errors import DataError
from memguard_integrations.autofeat.names import duplicated, nearest_hint, require_known, safe_names


@given(st.lists(st.text(min_size=1, max_size=12), unique=True, max_size=8), st.text(max_size=5))
def test_safe_names_are_distinct_identifiers(names: list[str], reserved: str) -> None:
    """Whatever columns are called, each gets its own name that is an identifier, no keyword and not reserved."""
    safe = safe_names(names, reserved=[reserved])
    assert list(safe) == names
    assert len(set(safe.values())) == len(names)
    for name in safe.values():
        assert name.isidentifier()
        assert name.isascii()
        assert not keyword.iskeyword(name)
        assert name != reserved


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dep_delay", "dep_delay"),
        ("dep delay (min)", "dep_delay_min"),
        ("2nd", "x_2nd"),
        ("a+b", "a_b"),
        ("exp", "x_exp"),
        ("lambda", "x_lambda"),
        ("E", "x_E"),
        ("%", "x"),
    ],
)
def test_a_name_changes_only_where_sympy_needs_it(name: str, expected: str) -> None:
    """Good names stay as they are; operators, keywords and names with a meaning in formulas are written otherwise."""
    assert safe_names([name])[name] == expected


def test_names_that_would_share_a_symbol_are_kept_apart() -> None:
    """AutoFeat would take ``a b``, ``ab`` and ``a_b`` apart by their letters only; here none takes another's name."""
    safe = safe_names(["a b", "a_b", "a-b"])
    assert safe["a_b"] == "a_b"
    assert len(set(safe.values())) == 3


def test_duplicates_are_named_once() -> None:
    """Each name that occurs again is listed once, in order."""
    assert duplicated(["a", "b", "a", "c", "b", "a"]) == ("a", "b")


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    """A slip of the hand gets the column that was meant, whatever its case; else the columns there are."""
    assert nearest_hint("Arr_Dely", ["dep_delay", "arr_delay"]) == "did you mean 'arr_delay'?"
    assert nearest_hint("zzz", ["a", "b"]) == "its columns are a, b"
    with pytest.raises(DataError, match=r"t\.csv: has no column 'bmj' \(--target\); did you mean 'bmi'\?"):
        require_known(["bmj"], ["bmi", "bp"], source="t.csv", flag="--target")
