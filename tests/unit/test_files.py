"""A file is there whole or not at all, and places that cannot be written are refused before the work."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from memguard import files
from memguard.errors import DataError, OutputError
from memguard.files import check_apart, check_output, whole_file


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
    with whole_file(target, force=True) as beside:
        beside.write_text("new")
    assert (names(tmp_path), target.read_text()) == (["r.json"], "new")


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
        (lambda folder: folder / "dangling", "exists already as a link that leads nowhere; .*--force"),
        (lambda folder: folder / "a\0b", "cannot be written there: embedded null"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused(make: object, told: str, tmp_path: Path) -> None:
    """Before any work: what is wrong with the place, by its name, and what to do."""
    (tmp_path / "there").write_text("old")
    os.symlink(tmp_path / "nowhere", tmp_path / "dangling")
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
    check_output(tmp_path / "dangling", force=True)


def refuse_links(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.fixture(params=["links", "no links"])
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both kinds of file systems: with hard links, and without as FAT is."""
    if request.param == "no links":
        monkeypatch.setattr(files.os, "link", refuse_links)
    return str(request.param)


@pytest.mark.usefixtures("file_system")
@pytest.mark.parametrize("what", ["file", "dangling link"])
def test_what_appeared_meanwhile_is_kept(what: str, tmp_path: Path) -> None:
    """Without force nothing is replaced that came after the check; the error says so, and nothing else stays."""
    target = tmp_path / "r.json"

    def write() -> None:
        with whole_file(target) as beside:
            beside.write_text("mine")
            target.write_text("theirs") if what == "file" else target.symlink_to("nowhere")

    with pytest.raises(
        OutputError, match=r"r\.json could not be written: File exists; it appeared meanwhile"
    ):
        write()
    assert names(tmp_path) == ["r.json"]
    assert target.is_symlink() or target.read_text() == "theirs"


@pytest.mark.usefixtures("file_system")
def test_a_new_file_is_published_on_any_file_system(tmp_path: Path) -> None:
    """With and without hard links the file is there, and nothing else."""
    with whole_file(tmp_path / "r.json") as beside:
        beside.write_text("whole")
    assert (names(tmp_path), (tmp_path / "r.json").read_text()) == (["r.json"], "whole")


def test_force_replaces_a_link_and_not_what_it_leads_to(tmp_path: Path) -> None:
    """The name that was given is replaced; a file of another name is none of it."""
    (tmp_path / "precious").write_text("old")
    (tmp_path / "link").symlink_to("precious")
    with whole_file(tmp_path / "link", force=True) as beside:
        beside.write_text("new")
    assert ((tmp_path / "precious").read_text(), (tmp_path / "link").read_text()) == ("old", "new")


@pytest.mark.parametrize("other", ["a.csv", "./a.csv", "folder/../a.csv", "link", "hard", "dangling"])
def test_one_file_in_two_roles_is_refused(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whatever name it is called, and whether it is there yet; the message names both roles."""
    monkeypatch.chdir(tmp_path)
    first = "nowhere" if other == "dangling" else "a.csv"
    Path("a.csv").write_text("x")
    Path("folder").mkdir()
    Path("link").symlink_to("a.csv")
    Path("dangling").symlink_to("nowhere")
    os.link("a.csv", "hard")
    with pytest.raises(DataError, match="is named both as DATA and as --report; name another file"):
        check_apart({"DATA": first, "-o": None, "--report": Path(other)})


def test_different_files_may_have_any_names(tmp_path: Path) -> None:
    """Files that are not there, or whose names no file can have, are not one and the same."""
    check_apart({"DATA": tmp_path / "a", "-o": tmp_path / "b", "--report": tmp_path / "c" / "a"})
    check_apart({"DATA": "a\0b", "-o": "x" * 5000})
