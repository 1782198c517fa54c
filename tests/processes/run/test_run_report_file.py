"""`memguard run --report FILE`: refused before the start where it cannot be, and there whole or not at all."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest


def refused(kit: Any, *options: str) -> str:
    """Run with options that are refused; returns the one line, and holds that nothing ran or changed."""
    before = {path: path.lstat().st_mtime_ns for path in kit.folder.rglob("*")}
    done = kit.run(*options, "--", "touch", "it-ran")
    (line,) = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout) == (2, b"")
    assert {path: path.lstat().st_mtime_ns for path in kit.folder.rglob("*")} == before
    assert line.startswith("memguard: ")
    return str(line.removeprefix("memguard: "))


def test_what_exists_is_not_replaced_unasked(kit: Any) -> None:
    """An existing file is refused with the remedy --force, which then replaces it whole."""
    file = kit.folder / "r.json"
    file.write_text("precious")
    line = refused(kit, "--report", "r.json")
    assert line == "r.json: exists already; name another file, or give --force to replace it"
    assert kit.run("--report", "r.json", "--force", "--", "true").returncode == 0
    assert json.loads(file.read_text())["outcome"] == "completed"
    assert list(kit.folder.iterdir()) == [file]


def test_a_folder_in_its_place_and_a_missing_one_are_refused(kit: Any) -> None:
    """A folder, a file below a file, a file in no folder, and a name too long are each named with what to do."""
    (kit.folder / "folder").mkdir()
    (kit.folder / "file").write_text("")
    assert refused(kit, "--report", "folder", "--force") == "folder: is a folder; name a file in it"
    line = refused(kit, "--report", "missing/r.json")
    assert line == "missing/r.json: there is no folder missing; make it first, or name another"
    assert refused(kit, "--report", "file/r.json").startswith(
        "file/r.json: cannot be written there: Not a directory; "
    )
    assert "File name too long" in refused(kit, "--report", "x" * 300)
    assert "name a file in it" in refused(kit, "--report", "")


def test_a_device_is_never_replaced(kit: Any) -> None:
    """--force does not make a file of a pipe, a device or a link to one: /dev/null would be lost for everybody."""
    pipe, link = kit.folder / "pipe", kit.folder / "link"
    os.mkfifo(pipe)
    link.symlink_to("/dev/full")
    for name in ("pipe", "link"):
        assert refused(kit, "--report", name, "--force").startswith(
            f"{name}: is not a file that can be replaced; "
        )


def test_the_longest_name_is_written(kit: Any) -> None:
    """A name of 255 bytes, the most a file system takes, is no problem for the part file beside it."""
    name = "x" * 255
    assert kit.run("--report", name, "--", "true").returncode == 0
    assert [path.name for path in kit.folder.iterdir()] == [name]


def test_a_folder_that_vanishes_meanwhile_costs_one_line(kit: Any) -> None:
    """A report that can no longer be written after the command is told, also with -q, and the status is kept."""
    for words in (["rm -r folder"], ["rm -r folder; echo file >folder"]):
        (kit.folder / "folder").mkdir()
        done = kit.run("-q", "--report", "folder/r.json", "--", "/bin/sh", "-c", f"{words[0]}; exit 7")
        (line,) = done.stderr.decode().splitlines()
        assert done.returncode == 7
        assert line.startswith("memguard: folder/r.json could not be written: No")


def test_a_report_is_relative_to_where_memguard_started(kit: Any) -> None:
    """Whatever the command does with its own working directory, the report lands where it was asked for."""
    (kit.folder / "elsewhere").mkdir()
    assert kit.run("--report", "r.json", "--", "/bin/sh", "-c", "cd elsewhere").returncode == 0
    assert (kit.folder / "r.json").is_file()


def test_the_umask_applies_to_a_report(kit: Any) -> None:
    """A report is as private as the caller's umask makes it."""
    assert kit.run("--report", "r.json", "--", "true", umask=0o077).returncode == 0
    assert (kit.folder / "r.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("command", ["true", "false"])
def test_no_report_is_written_unasked(kit: Any, command: str) -> None:
    """Without --report no file is made."""
    kit.run("--", command)
    assert list(kit.folder.iterdir()) == []
