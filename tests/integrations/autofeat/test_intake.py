"""What a table gets: read as what it is, planned, or refused in one line that names the thing and the remedy.

Every case is a real file, read by the same functions that the worker runs.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memguard.errors import DataError
from memguard_integrations.autofeat.checks import check_usable_rows, make_plan
from memguard_integrations.autofeat.encode import usable_rows
from memguard_integrations.autofeat.records import ColumnKind, FeaturePlan, MissingPolicy, TableFacts, Task
from memguard_integrations.autofeat.sources import FrameSource, open_source
from memguard_integrations.autofeat.survey import survey

Writer = Callable[..., str]


def facts_of(path: str) -> TableFacts:
    source = open_source(path)
    return survey(source, source.names)


def plan_of(path: str, target: str = "y", task: str = "regression", missing: str = "skip") -> FeaturePlan:
    """Take a file as far as the fit: survey, plan, usable rows."""
    source = open_source(path)
    facts = survey(source, source.names)
    plan = make_plan(facts, target, Task(task), MissingPolicy(missing))
    check_usable_rows(plan, facts, int(usable_rows(source, plan).sum()))
    return plan


def rows_with(value: Any, at: int, count: int = 30) -> list[list[Any]]:
    return [[value if row == at else row, row * 0.5 % 7, row * 2] for row in range(count)]


class TestFiles:
    """Files that are not what they should be."""

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("empty.csv", b"", "is empty"),
            ("blank.csv", b"\n\n", "is empty"),
            ("binary.csv", b"\x89PNG\x00\x01\xff\xfe", "is not text in UTF-8"),
            ("zeros.csv", b"a,b\x00\n1,2\n", "is not text in UTF-8"),
            ("latin.csv", "a,ü,y\n1,ß,3\n".encode("latin-1"), "is not text in UTF-8"),
            ("late.csv", b"a,y\n" + b"1,2\n" * 50 + b"\xff\xfe,3\n", "is not text in UTF-8"),
            ("short.csv", b"a,b,y\n1,2,3\n4,5\n", r"Row #3: Expected 3 columns, got 2"),
            ("long.csv", b"a,b,y\n1,2,3\n4,5,6,7\n", r"Row #3: Expected 3 columns, got 4"),
            ("twice.csv", b"a,b,a\n1,2,3\n", "more than one column called 'a'"),
            ("not.csv.gz", b"a,b\n1,2\n", "cannot be read as CSV"),
            ("cut.csv.gz", gzip.compress(b"a,y\n" + b"1,2\n" * 9999, mtime=0)[:-30], "cannot be read as CSV"),
            ("text.parquet", b"nonsense", "cannot be read as Parquet"),
            ("table.xlsx", b"PK", "is of no known kind"),
        ],
    )
    def test_unreadable_files_are_refused(
        self, tmp_path: Path, name: str, content: bytes, message: str
    ) -> None:
        """Empty, binary, ragged, damaged and unknown files give one line with the file's name and a remedy."""
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DataError, match=message) as caught:
            facts_of(str(path))
        assert caught.value.subject == str(path)
        assert caught.value.remedy
        assert "\n" not in str(caught.value)

    def test_a_missing_file_is_answered_with_a_similar_one(self, tmp_path: Path) -> None:
        """A slip in a file's name gets the file that was meant."""
        (tmp_path / "flights.csv").write_text("a\n1\n")
        with pytest.raises(DataError, match=r"no such file; did you mean '.*flights\.csv'"):
            open_source(str(tmp_path / "flight.csv"))

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("table/ok.csv", r"/table is no such folder; did you mean '.*/tables'\?$"),
            ("no/where/ok.csv", r"/no is no such folder; check the path$"),
            ("flat.csv/ok.csv", r"/flat\.csv is no folder, but a file; check the path$"),
            ("x" * 300 + ".csv", r"cannot be looked at: File name too long; check the path$"),
        ],
    )
    def test_a_missing_folder_is_named(self, tmp_path: Path, name: str, message: str) -> None:
        """Where a folder on the way is missing, it is the folder that is told, and the one that was meant."""
        (tmp_path / "tables").mkdir()
        (tmp_path / "flat.csv").write_text("a\n1\n")
        with pytest.raises(DataError, match=message):
            open_source(str(tmp_path / name))

    @pytest.mark.parametrize(
        ("name", "content", "remedy"),
        [
            (
                "bad.csv.gz",
                b"a,b\n1,2\n",
                r"compress it with gzip, or name it as what it is, such as .*/bad\.csv$",
            ),
            ("cut.csv.gz", gzip.compress(b"a,y\n" + b"1,2\n" * 9999, mtime=0)[:-30], r"\); write it again$"),
            ("short.csv", b"a,b\n1,2\n3\n", r"\); correct that line, or write it again$"),
        ],
    )
    def test_a_line_is_to_be_corrected_only_where_one_is_named(
        self, tmp_path: Path, name: str, content: bytes, remedy: str
    ) -> None:
        """What is wrong with a whole file is not told as a line's fault."""
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=remedy):
            facts_of(str(tmp_path / name))

    def test_a_directory_is_refused(self, tmp_path: Path) -> None:
        """A directory is no table."""
        with pytest.raises(DataError, match="is a directory"):
            open_source(str(tmp_path))

    def test_duplicates_are_seen_where_pandas_renames_them(self, tmp_path: Path) -> None:
        """A Parquet file with two columns of one name is refused as a CSV file is."""
        path = tmp_path / "t.parquet"
        table = pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0])], names=["a", "a"])
        pq.write_table(table, path)
        with pytest.raises(DataError, match="more than one column called 'a'"):
            facts_of(str(path))


class TestReading:
    """What is read is what is there."""

    @pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
    def test_kinds_are_decided_over_all_rows(self, tmp_path: Path, name: str) -> None:
        """A column is a number only if every row says so: one text in the last row makes it text, and is named."""
        lines = ["n,t,d,e,y", *(f"{row},a{row % 3},2020-01-{1 + row % 28:02},,{row}" for row in range(2000))]
        lines.append('oops,"a,0",2020-02-01,,1e3')
        path = tmp_path / name
        content = "\n".join(lines).encode()
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        facts = facts_of(str(path))
        assert facts.rows == 2001
        kinds = [column.kind for column in facts.columns]
        assert kinds == [
            ColumnKind.TEXT,
            ColumnKind.TEXT,
            ColumnKind.TIME,
            ColumnKind.EMPTY,
            ColumnKind.NUMBER,
        ]
        assert facts.column("n").detail == "'oops' in data row 2,001"
        assert dict(facts.column("t").levels)["a,0"] == 1

    def test_missing_values_are_counted_however_they_are_written(self, write_csv: Writer) -> None:
        """Empty, NA, NaN, null and None are missing, blanks around them or not; infinite is not missing."""
        rows = [
            ["", 1],
            ["NA", 1],
            [" NaN ", 1],
            ["null", 1],
            ["None", 1],
            ["inf", 1],
            ["-Infinity", 1],
            [" 2.5", 1],
        ]
        facts = facts_of(write_csv(["a", "y"], rows)).column("a")
        assert (facts.missing, facts.infinite, facts.lowest, facts.highest) == (5, 2, 2.5, 2.5)

    def test_a_number_beyond_32_bits_is_infinite_to_autofeat(self, write_csv: Writer) -> None:
        """AutoFeat works on 32-bit floats, so what overflows there is treated as infinite from the start."""
        assert facts_of(write_csv(["a", "y"], [["1e39", 1], ["3", 2]])).column("a").infinite == 1

    def test_other_separators_are_seen_and_announced(self, tmp_path: Path) -> None:
        """A file with semicolons is read as such, and that is said."""
        path = tmp_path / "t.csv"
        path.write_text("\ufeffa;b;y\n1;2;3\n")
        facts = facts_of(str(path))
        assert facts.names == ("a", "b", "y")
        assert facts.notes == ("its fields are separated by semicolons",)

    def test_a_column_without_a_name_is_announced(self, tmp_path: Path) -> None:
        """The index that pandas writes without a name is used only under a name that is told."""
        path = tmp_path / "t.csv"
        path.write_text(",a,y\n0,1,2\n")
        facts = facts_of(str(path))
        assert facts.names == ("column_1", "a", "y")
        assert "column 1 has no name" in facts.notes[0]

    def test_parquet_and_frame_say_what_csv_says(self, tmp_path: Path, patients: Any) -> None:
        """The same table gives the same facts as CSV, as Parquet and in memory; the stored index is no column."""
        frame, _ = patients
        frame.to_csv(tmp_path / "t.csv", index=False)
        frame.to_parquet(tmp_path / "t.parquet")
        sources = [
            open_source(str(tmp_path / "t.csv")),
            open_source(str(tmp_path / "t.parquet")),
            FrameSource(frame),
        ]
        found = [survey(source, source.names) for source in sources]
        for name in frame.columns:
            columns = [facts.column(name) for facts in found]
            known = [
                (column.kind, column.missing, column.lowest, column.highest, column.parts, column.levels)
                for column in columns
            ]
            assert known[0] == known[1] == known[2]

    def test_types_that_are_no_numbers_are_named(self, tmp_path: Path) -> None:
        """A list column cannot become numbers; the refusal names it, its type and the columns that can be used."""
        path = tmp_path / "t.parquet"
        table = pa.table({"a": np.arange(20.0), "l": [[1, 2]] * 20, "y": np.arange(20.0)})
        pq.write_table(table, path)
        with pytest.raises(DataError, match=r"column 'l' is of type list<.*choose the columns: --columns a$"):
            plan_of(str(path))

    def test_mixed_objects_in_a_frame_are_named(self) -> None:
        """A column of different Python types is refused by its name."""
        with pytest.raises(DataError, match="column 'a' holds values of mixed or unknown types"):
            FrameSource(pd.DataFrame({"a": [1, "x", None], "b": [1, 2, 3]}))


class TestRefusals:
    """Tables that can be read but not learned from."""

    @pytest.mark.parametrize(("rows", "said"), [(0, "has 0 rows"), (1, "has 1 row;"), (9, "has 9 rows")])
    def test_too_few_rows(self, write_csv: Writer, rows: int, said: str) -> None:
        """No row, one row and fewer than cross-validation needs are refused with their number."""
        with pytest.raises(DataError, match=said):
            plan_of(write_csv(["a", "b", "y"], rows_with(0, -1, rows)))

    def test_nothing_but_constant_and_empty_columns(self, write_csv: Writer) -> None:
        """A table whose columns never change is refused, each column named with the reason."""
        path = write_csv(["a", "b", "y"], [[1, "", row] for row in range(20)])
        with pytest.raises(DataError, match=r"no values at all: b; left out, constant: a \(always 1\)"):
            plan_of(path)

    def test_a_table_with_the_target_only(self, write_csv: Writer) -> None:
        """A table needs a column beside the target."""
        with pytest.raises(DataError, match="there is none beside the target"):
            plan_of(write_csv(["y"], [[row] for row in range(20)]))

    def test_text_with_many_values_is_refused_by_name(self, write_csv: Writer) -> None:
        """One-hot encoding stops at twenty values; the remedy is the list of columns that can be used."""
        path = write_csv(["id", "a", "b", "y"], [[f"k{row}", row, row % 3, row] for row in range(30)])
        with pytest.raises(DataError, match=r"column 'id' is text with 30 different values.*--columns a,b$"):
            plan_of(path)

    def test_one_bad_value_among_numbers_is_found(self, write_csv: Writer) -> None:
        """A stray text in a column of numbers is told with its row, not as a column of text."""
        path = write_csv(["a", "b", "y"], rows_with("n/k", 17, 300))
        with pytest.raises(DataError, match=r"no number: 'n/k' in data row 18"):
            plan_of(path)

    def test_missing_values_are_refused_where_asked(self, write_csv: Writer) -> None:
        """With the policy ``error`` the column, the count and both remedies are named."""
        path = write_csv(["a", "b", "y"], rows_with("", 3))
        with pytest.raises(
            DataError, match=r"column 'a' has 1 missing value; use --missing skip .* --missing median"
        ):
            plan_of(path, missing="error")

    def test_infinite_values_are_refused_where_asked(self, write_csv: Writer) -> None:
        """With the policy ``error`` an infinite value is refused by its column."""
        path = write_csv(["a", "b", "y"], rows_with("inf", 3))
        with pytest.raises(DataError, match="column 'a' has 1 infinite value"):
            plan_of(path, missing="error")

    def test_a_column_that_is_mostly_missing_is_named(self, write_csv: Writer) -> None:
        """Where skipping leaves too few rows, the column to blame and the remedy are named."""
        path = write_csv(["a", "b", "y"], [["" if row < 25 else row, row % 4, row] for row in range(30)])
        with pytest.raises(
            DataError, match=r"5 usable rows of 30 \(most are missing in 'a': 25\).*--missing median"
        ):
            plan_of(path)


class TestTargets:
    """Targets that cannot be predicted."""

    @pytest.mark.parametrize(
        ("values", "task", "message"),
        [
            (lambda row: "xy"[row % 2], "regression", r"is text, not a number .*; use --task classification"),
            (lambda row: f"name{row}", "regression", r"is text, not a number"),
            (lambda row: f"2020-01-{row % 28 + 1:02}", "regression", "is a date or time, not a number"),
            (lambda row: 5, "regression", "is always 5"),
            (lambda row: "", "regression", "has no values"),
            (lambda row: "inf" if row == 2 else row, "regression", "has 1 infinite value"),
            (lambda row: 1, "classification", r"has one class only \('1'\)"),
            (lambda row: row, "classification", r"has 30 classes in 30 rows.*--task regression"),
            (lambda row: f"k{row}", "classification", r"has 30 classes in 30 rows.*group the classes"),
            (lambda row: row / 4, "classification", "is a number with fractions, not a class"),
            (lambda row: f"2020-01-{row % 3 + 1:02}", "classification", "is a date or time, not a class"),
        ],
    )
    def test_a_target_that_cannot_be_predicted(
        self, write_csv: Writer, values: Callable[[int], Any], task: str, message: str
    ) -> None:
        """Each is refused by its name, with what it is and what to do."""
        path = write_csv(["a", "b", "y"], [[row, row % 7, values(row)] for row in range(30)])
        with pytest.raises(DataError, match=message) as caught:
            plan_of(path, task=task)
        assert "the target 'y'" in str(caught.value)

    def test_rare_classes_are_warned_of(self, write_csv: Writer) -> None:
        """A class with fewer rows than folds is named in a warning."""
        path = write_csv(["a", "y"], [[row, "rare" if row < 3 else "ab"[row % 2]] for row in range(40)])
        plan = plan_of(path, task="classification")
        assert sorted(plan.classes) == ["a", "b", "rare"]
        assert any("fewer than 5 rows of rare" in warning for warning in plan.warnings)


class TestHelp:
    """What can be helped is helped, and said."""

    def test_constant_and_empty_columns_are_left_out(self, write_csv: Writer) -> None:
        """Columns without information are left out with a warning that names them."""
        path = write_csv(["a", "same", "none", "y"], [[row, 3, "", row] for row in range(20)])
        plan = plan_of(path)
        assert plan.names == ("a",)
        assert plan.warnings == ("left out, no values at all: none", "left out, constant: same (always 3)")

    def test_times_and_texts_are_expanded_and_announced(self, write_csv: Writer) -> None:
        """A time becomes those of its parts that vary, a text one column a level, of two levels one."""
        rows = [
            [f"2020-{1 + row % 2:02}-{1 + row % 9:02}", "abc"[row % 3], "no" if row % 2 else "yes", row]
            for row in range(36)
        ]
        plan = plan_of(write_csv(["when", "kind", "flag", "y"], rows))
        assert plan.names == (
            *("when_month", "when_day", "when_dayofweek", "when_elapsed_days"),
            *("kind_a", "kind_b", "kind_c", "flag_yes"),
        )
        assert any(
            warning.startswith("when (date or time, UTC) became month, day") for warning in plan.warnings
        )
        assert any("kind (text) became 0/1 columns for a, b, c" in warning for warning in plan.warnings)

    def test_names_for_formulas_are_announced(self, write_csv: Writer) -> None:
        """A column that formulas write otherwise is announced with both names."""
        plan = plan_of(write_csv(["a (m)", "b", "y"], rows_with(0, -1)))
        assert plan.names == ("a_m", "b")
        assert "written in formulas as a_m for 'a (m)'" in plan.warnings

    def test_infinite_values_count_as_missing_and_that_is_said(self, write_csv: Writer) -> None:
        """By default an infinite value takes its row out of the fit, announced by column and count."""
        plan = plan_of(write_csv(["a", "b", "y"], rows_with("inf", 3)))
        assert "infinite values are taken as missing: a (1)" in plan.warnings

    def test_filled_values_are_announced(self, write_csv: Writer) -> None:
        """With the policy ``median`` the columns that get values they did not have are named."""
        plan = plan_of(write_csv(["a", "b", "y"], rows_with("", 3)), missing="median")
        assert "filled with the median or most frequent value: a (1)" in plan.warnings
