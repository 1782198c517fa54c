"""The page of requirements is true: every mark names a line, and the page shows every mark."""

from __future__ import annotations

import pytest

from tools.requirements_page import Family, Mark, find_marks, load_families, marks_in, render, unknown_ids

SOURCE = """
import pytest

pytestmark = [pytest.mark.heavy, pytest.mark.requirement("T7.1")]
REQUIREMENTS = ("T7.2", "T7.3")

@pytest.mark.requirement("R1.1", "R1.2")
def test_one(): ...

@pytest.mark.requirement("R2.1")
class TestTwo:
    @pytest.mark.requirement("R2.2")
    async def test_three(self): ...

@pytest.mark.parametrize("x", [1, pytest.param(2, marks=pytest.mark.requirement("R2.3"))])
def test_four(x): ...

@other.mark.requirement("R9.9")
def test_five(): ...
"""


def test_every_mark_names_a_line_of_the_list() -> None:
    """A test cannot claim to prove a line that does not exist."""
    assert unknown_ids(load_families(), find_marks()) == []


def test_every_line_has_an_id_of_its_family_and_a_text() -> None:
    """Ids begin with their family's letter and occur once, and each line says something."""
    families = load_families()
    assert [family.letter for family in families] == ["R", "T", "E", "S", "U"]
    ids = [(family.letter, line) for family in families for line in family.lines]
    assert [line for letter, line in ids if not line.startswith(letter)] == []
    assert len({line for _, line in ids}) == len(ids)
    assert [text for family in families for text in family.lines.values() if len(text) < 15] == []


def test_marks_are_found_wherever_they_stand() -> None:
    """Marks of tests, classes, modules and single cases are found, and only those of pytest."""
    assert set(marks_in(SOURCE, "a.py")) == {
        Mark("T7.1", "a.py"),
        Mark("T7.2", "a.py"),
        Mark("T7.3", "a.py"),
        Mark("R1.1", "a.py::test_one"),
        Mark("R1.2", "a.py::test_one"),
        Mark("R2.1", "a.py::TestTwo"),
        Mark("R2.2", "a.py::TestTwo::test_three"),
        Mark("R2.3", "a.py::test_four"),
    }


def test_an_unknown_id_is_reported_with_its_place() -> None:
    """A typing error in a mark is named together with the test that has it."""
    families = [Family("R", "jobs", {"R1.1": "memory is back"})]
    wrong = Mark("R1.9", "a.py::test_one")
    assert unknown_ids(families, [Mark("R1.1", "a.py"), wrong]) == [wrong]


def test_a_mark_must_be_a_plain_text() -> None:
    """A number or a computed id is refused: the page is made without running the tests."""
    for argument, error in (("1.1", TypeError), ("ID", ValueError)):
        with pytest.raises(error):
            list(marks_in(f"x = pytest.mark.requirement({argument})", "a.py"))


def test_the_page_shows_each_line_and_who_proves_it() -> None:
    """Each line is in the page once as a row, with its tests or the words that it has none."""
    page = render()
    proven = {mark.requirement for mark in find_marks()}
    for family in load_families():
        for line in family.lines:
            (row,) = [row for row in page.splitlines() if row.startswith(f"| {line} |")]
            assert ("not yet proven" in row) == (line not in proven)
