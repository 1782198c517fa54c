"""An output file appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from memguard.errors import DataError, OutputError
from memguard.units import GIB, KIB
from memguard_integrations.autofeat import output as output_room
from memguard_integrations.autofeat.output import OutputFile, check_table_output, room_warning


@pytest.fixture(params=["nameless", "named"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Both ways to write: a file without a name, and where the file system has none, one beside the place."""
    if request.param == "named":
        # The flag of a plain open for writing: a directory refuses it as a file system without O_TMPFILE does.
        monkeypatch.setattr(output_room.os, "O_TMPFILE", os.O_DIRECTORY)
    else:
        try:
            os.close(os.open(tmp_path, os.O_TMPFILE | os.O_RDWR))
        except OSError as error:
            pytest.skip(f"this file system has no nameless files: {error}")
    return str(request.param)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.usefixtures("kind")
class TestOutputFile:
    """The file and its directory at each ending."""

    def test_it_is_there_once_it_is_published(self, tmp_path: Path) -> None:
        """Before it is published nothing can be seen of it under its name, afterwards all of it."""
        path = tmp_path / "out.parquet"
        with OutputFile(str(path)) as output:
            Path(output.writing_path).write_bytes(b"all of it")
            assert not path.exists()
            output.publish()
        assert path.read_bytes() == b"all of it"
        assert os.listdir(tmp_path) == ["out.parquet"]
        assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()

    @pytest.mark.requirement("R1.4")
    def test_nothing_is_left_after_an_error(self, tmp_path: Path) -> None:
        """An error while writing leaves the directory as it was."""
        with contextlib.suppress(RuntimeError), OutputFile(str(tmp_path / "out.parquet")) as output:
            Path(output.writing_path).write_bytes(b"half of it")
            raise RuntimeError
        assert os.listdir(tmp_path) == []

    def test_a_file_that_appeared_meanwhile_is_kept(self, tmp_path: Path) -> None:
        """Without force a file that somebody else wrote in the meantime is not replaced."""
        path = tmp_path / "out.parquet"
        with OutputFile(str(path)) as output:
            Path(output.writing_path).write_bytes(b"mine")
            path.write_bytes(b"theirs")
            with pytest.raises(OutputError, match="it appeared while the job ran"):
                output.publish()
        assert path.read_bytes() == b"theirs"
        assert os.listdir(tmp_path) == ["out.parquet"]

    def test_the_longest_name_is_written(self, tmp_path: Path) -> None:
        """What is beside it meanwhile fits wherever the file itself does, with force too."""
        path = tmp_path / ("x" * 247 + ".parquet")
        for force in (False, True):
            with OutputFile(str(path), force=force) as output:
                output.publish()
        assert os.listdir(tmp_path) == [path.name]

    def test_force_replaces(self, tmp_path: Path) -> None:
        """With force the old file stays until the new one is whole, then is replaced."""
        path = tmp_path / "out.parquet"
        path.write_bytes(b"old")
        with OutputFile(str(path), force=True) as output:
            Path(output.writing_path).write_bytes(b"new")
            assert path.read_bytes() == b"old"
            output.publish()
        assert path.read_bytes() == b"new"
        assert os.listdir(tmp_path) == ["out.parquet"]

    def test_a_full_disk_leaves_nothing(self, small_disk: Path) -> None:
        """A disk that is full while writing leaves no partial file."""
        with (
            pytest.raises(OSError, match="No space left"),
            OutputFile(str(small_disk / "o.parquet")) as output,
        ):
            Path(output.writing_path).write_bytes(bytes(1 << 20))
        assert os.listdir(small_disk) == []


@pytest.mark.requirement("R1.4")
def test_nothing_is_left_when_the_caller_is_killed(tmp_path: Path) -> None:
    """Even a caller that is killed outright leaves no partial file, where the file system has nameless files."""
    try:
        os.close(os.open(tmp_path, os.O_TMPFILE | os.O_RDWR))
    except OSError as error:
        pytest.skip(f"this file system has no nameless files: {error}")
    program = (
        "import sys, pathlib, signal\n"
        "from memguard_integrations.autofeat.output import OutputFile\n"
        "with OutputFile(sys.argv[1]) as output:\n"
        "    pathlib.Path(output.writing_path).write_bytes(bytes(1 << 16))\n"
        "    print('writing', flush=True)\n"
        "    signal.pause()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "out.parquet")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert os.listdir(tmp_path) == []


def test_the_file_takes_the_place_of_no_standard_stream(tmp_path: Path) -> None:
    """Where stderr is closed its number stays free of the file: jobs would print into it."""
    program = (
        "import os, sys\n"
        "from memguard_integrations.autofeat.output import OutputFile\n"
        "with OutputFile(sys.argv[1]) as output:\n"
        "    for number in (0, 1, 2):\n"
        "        os.closerange(number, number + 1)\n"
        "    with OutputFile(sys.argv[2]) as other:\n"
        "        sys.exit(int(other.writing_path.rpartition('/')[2]) <= 2)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]
    assert subprocess.run(command, check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.csv", "out.csv: the output is Parquet; name it so: {}/out.parquet"),
        ("out.CSV.gz", "out.CSV.gz: the output is Parquet; name it so: {}/out.parquet"),
        ("out", "out: the output is Parquet; name it so: {}/out.parquet"),
        ("out.v2", "out.v2: the output is Parquet; name it so: {}/out.v2.parquet"),
        ("folder", "folder: is a folder; name a file in it"),
        ("no/out.csv", "no/out.csv: there is no folder {}/no"),
    ],
)
def test_an_output_that_is_no_parquet_is_refused(tmp_path: Path, name: str, message: str) -> None:
    """The name says what is written, and the one proposed is good; what is there already is told first."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError) as caught:
        check_table_output(str(tmp_path / name), force=False)
    assert str(caught.value).startswith(f"{tmp_path}/{message.format(tmp_path)}")


@pytest.mark.parametrize("force", [True, False])
def test_a_device_is_no_output(force: bool) -> None:
    """A device is refused as what it is, and no name beside it is proposed."""
    with pytest.raises(DataError, match=r"^/dev/full: is not a file that can be replaced; name a new file$"):
        check_table_output("/dev/full", force=force)


@pytest.mark.usefixtures("kind")
def test_a_place_is_tried_out_and_left_as_it_was(tmp_path: Path) -> None:
    """Where an output can be written the trial leaves nothing, an older file and the longest name included."""
    path = tmp_path / ("x" * 247 + ".parquet")
    check_table_output(str(path), force=False)
    assert os.listdir(tmp_path) == []
    path.write_bytes(b"old")
    check_table_output(str(path), force=True)
    assert (os.listdir(tmp_path), path.read_bytes()) == ([path.name], b"old")


def test_a_place_where_nothing_can_be_made_is_refused_before_the_work() -> None:
    """A folder that lets nobody make a file, whatever its permissions say, is found by trying."""
    with pytest.raises(OutputError, match=r"^/proc/o\.parquet: could not be written"):
        check_table_output("/proc/o.parquet", force=False)


def test_a_disk_without_any_room_is_refused_before_the_work(small_disk: Path) -> None:
    """A disk on which not even an empty table has room is refused by the trial, and nothing is left of it."""
    (small_disk / "full").write_bytes(bytes(256 * 1024))
    with pytest.raises(OutputError, match="No space left on device.*free some space"):
        check_table_output(str(small_disk / "o.parquet"), force=False)
    assert os.listdir(small_disk) == ["full"]


def test_a_disk_that_may_be_too_small_is_warned_of(small_disk: Path) -> None:
    """What the output may have at most is compared with what is free; that it packs well nobody knows before."""
    path = str(small_disk / "o.parquet")
    assert room_warning(path, 100 * KIB) == ""
    assert room_warning(path, GIB).startswith(
        f"the output may have up to 1 GiB, and only 256 KiB are free in {small_disk}: "
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
