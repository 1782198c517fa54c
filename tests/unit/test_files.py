"""A file is there whole or not at all, and places that cannot be written are refused before the work."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from memguard.errors import DataError, OutputError
from memguard.files import check_output, whole_file


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


@contextmanager
def files_of_at_most(count_bytes: int) -> Iterator[None]:
    """Let the kernel refuse to make any file longer than this, as a full disk would."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, former)


def test_a_file_appears_at_the_end(tmp_path: Path) -> None:
    """While it is written there is no file of that name; afterwards there is only that."""
    target = tmp_path / "r.json"
    with whole_file(target) as beside:
        beside.write_text("whole")
        assert not target.exists()
        assert beside.parent == tmp_path
    assert names(tmp_path) == ["r.json"]
    assert target.read_text() == "whole"


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    """An error leaves the old file as it was, and nothing beside it."""
    target = tmp_path / "r.json"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), whole_file(target) as beside:
        beside.write_text("half")
        raise ZeroDivisionError
    assert (names(tmp_path), target.read_text()) == (["r.json"], "old")
    with whole_file(target) as beside:
        beside.write_text("new")
    assert target.read_text() == "new"


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """When the kernel refuses to write on, the error names the file and the cause, and no part of it stays."""
    target = tmp_path / "r.json"

    def write() -> None:
        with whole_file(target) as beside:
            beside.write_bytes(b"x" * 100_000)

    with (
        files_of_at_most(10_000),
        pytest.raises(OutputError, match=r"r\.json could not be written: File too large") as caught,
    ):
        write()
    assert caught.value.path == str(target)
    assert isinstance(caught.value, OSError)
    assert names(tmp_path) == []


def test_a_name_as_long_as_can_be_is_written(tmp_path: Path) -> None:
    """The file beside fits wherever the file itself does."""
    target = tmp_path / ("n" * 250 + ".json")
    with whole_file(target) as beside:
        beside.write_text("x")
    assert names(tmp_path) == [target.name]


def test_a_folder_that_goes_away_is_told(tmp_path: Path) -> None:
    """A place that vanished meanwhile is an error of the output, with its name."""
    folder = tmp_path / "gone"
    folder.mkdir()

    def write() -> None:
        with whole_file(folder / "r.json") as beside:
            folder.rmdir()
            beside.write_text("x")

    with pytest.raises(OutputError, match=r"gone/r\.json could not be written: No such file"):
        write()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda folder: folder, "is a folder; name a file in it"),
        (lambda folder: folder / "there", "exists already; .*--force"),
        (lambda folder: folder / "no" / "r.json", "there is no folder"),
        (lambda folder: Path("/dev/null"), "is not a file that can be replaced"),
        (lambda folder: folder / ("n" * 300), "File name too long"),
        (lambda folder: folder / "there" / "r.json", "r.json"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused(make: object, told: str, tmp_path: Path) -> None:
    """Before any work: what is wrong with the place, by its name, and what to do."""
    (tmp_path / "there").write_text("old")
    with pytest.raises(DataError, match=told):
        check_output(make(tmp_path), force=False)  # type: ignore[operator]


def test_a_place_that_can_be_written_is_let_pass(tmp_path: Path) -> None:
    """A new name, and with ``force`` an old one too; a folder not even then."""
    (tmp_path / "there").write_text("old")
    check_output(tmp_path / "new", force=False)
    check_output(tmp_path / "there", force=True)
    with pytest.raises(DataError, match="is a folder"):
        check_output(tmp_path, force=True)
    os.symlink(tmp_path / "nowhere", tmp_path / "dangling")
    check_output(tmp_path / "dangling", force=False)
