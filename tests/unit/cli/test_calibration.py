"""``memguard estimate --calibration``: misses against the stated rate and waste, as table, charts, PNG and JSON."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from memguard.cli.canvas import Canvas, text_width
from memguard.cli.glyphs import glyph
from memguard.episodes import Episode, EpisodeStore
from memguard.units import MIB
from tests.support.forecasts import keep, memguard, past_job, sized

SCHEMA = json.loads(resources.files("memguard").joinpath("schemas", "calibration-1.json").read_text())
SORT, FIT = ("sort", "--rows", "5"), ("fit", "--steps", "2")
VERMILION = (213, 94, 0)


def fleet() -> Iterator[Episode]:
    """Yield 40 jobs that keep to their forecast but for one, and 12 of another kind of which every other does not."""
    for n in range(40):
        yield past_job(SORT, n, 101 if n == 20 else 80, **sized(100 if n else None, promised=True))
    for n in range(40, 52):
        yield past_job(FIT, n, 150 if n % 2 else 50, **sized(100))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibration")
    keep(folder, fleet())
    return folder


def pixels(content: bytes) -> tuple[int, int, bytes]:
    """Return width, height and the pixels of a PNG, each part of which must have the sum it says."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    parts, at = {}, 8
    while at < len(content):
        size, name = struct.unpack(">I4s", content[at : at + 8])
        body, (crc,) = content[at + 8 : at + 8 + size], struct.unpack_from(">I", content, at + 8 + size)
        assert zlib.crc32(name + body) == crc
        parts[name] = body
        at += 12 + size
    width, height = struct.unpack(">II", parts[b"IHDR"][:8])
    raw = zlib.decompress(parts[b"IDAT"])
    stride = 1 + width * 3
    assert len(raw) == height * stride
    assert {raw[at] for at in range(0, len(raw), stride)} == {0}
    return width, height, b"".join(raw[at + 1 : at + stride] for at in range(0, len(raw), stride))


@pytest.mark.requirement("T1.2")
def test_each_kind_is_held_to_the_stated_rate(capsys: pytest.CaptureFixture[str], store: Path) -> None:
    """Counts, chance, widening and waste are those of the jobs, first tries with a forecast alone."""
    status, out, said = memguard(capsys, "estimate", "--calibration", "--json", "--episodes", str(store))
    found = json.loads(out)
    jsonschema.validate(found, SCHEMA)
    assert (status, said, found["miss_rate"]) == (0, "", 0.05)
    sort, fit = found["kinds"]
    assert [sort[name] for name in ("kind", "jobs", "attempts", "misses", "widened")] == [
        "sort --rows", 40, 39, 1, False,
    ]  # fmt: skip
    assert 0.5 < sort["chance"] < 1
    assert sort["wasted_share"] == pytest.approx(38 * 20 / (39 * 100))
    assert sort["wasted_byte_s"] == pytest.approx(38 * 20 * MIB * 2)
    assert [fit[name] for name in ("attempts", "misses", "widened", "promised_attempts")] == [12, 6, True, 0]
    assert fit["chance"] < 0.01
    assert [each["missed"] for each in fit["history"]] == [False, True] * 6


def test_the_table_and_the_charts_show_the_same(capsys: pytest.CaptureFixture[str], store: Path) -> None:
    """A line a kind, the widened one with the page to read, bars of use and columns of waste."""
    status, out, _ = memguard(capsys, "estimate", "--calibration", "--episodes", str(store))
    lines = out.splitlines()
    assert status == 0
    assert lines[1].split()[:6] == ["sort", "--rows", "40", "39", "39", "1"]
    assert "kept" in lines[1]
    assert "widened" in lines[2]
    assert "7 of 51 forecasts were missed, 1 of the 39 with a promise (2.6%; stated are 5%)" in out
    assert "memguard runbook ForecastMissed" in out
    assert any(line.strip().startswith("to 80% |###") and line.endswith(" 38") for line in lines)
    assert any("more |!" in line and line.endswith("7  missed") for line in lines)
    assert "reserved in vain, oldest to newest" in lines
    assert all(len(line) <= 120 for line in lines)


def test_kinds_are_chosen_by_a_part_of_their_name(capsys: pytest.CaptureFixture[str], store: Path) -> None:
    """Whatever the case; of none that is there that is said, and is no failure."""
    words = ("estimate", "--calibration", "--episodes", str(store))
    found = json.loads(memguard(capsys, *words, "--json", "--kind", "FIT")[1])
    assert [each["kind"] for each in found["kinds"]] == ["fit --steps"]
    status, out, _ = memguard(capsys, *words, "--kind", "nothing like it")
    assert (status, out.startswith("no job that can be learned from")) == (0, True)


def test_the_picture_is_a_whole_png_with_each_miss_marked(
    capsys: pytest.CaptureFixture[str], store: Path, tmp_path: Path
) -> None:
    """Its parts have their sums, misses are drawn in their color, and nothing is replaced unless that is asked for."""
    file = tmp_path / "kept.png"
    words = ("estimate", "--calibration", "--episodes", str(store), "--picture", str(file))
    assert memguard(capsys, *words)[0] == 0
    width, height, drawn = pixels(file.read_bytes())
    assert width >= 800
    assert height >= 800
    marked = drawn.count(bytes(VERMILION))
    assert memguard(capsys, *words)[0] != 0
    assert memguard(capsys, *words, "--force", "--kind", "sort")[0] == 0
    fewer = pixels(file.read_bytes())[2]
    assert 0 < fewer.count(bytes(VERMILION)) < marked
    status, _, said = memguard(capsys, *words[:-1], str(tmp_path / "kept.svg"))
    assert (status, "ends with .png" in said) == (2, True)


@pytest.mark.parametrize("picture", [False, True])
def test_without_a_forecast_that_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, picture: bool
) -> None:
    """Of no store, of an empty one and of one whose jobs had no forecast; a picture says so too."""
    words = ["estimate", "--calibration", "--episodes", str(tmp_path / "store")]
    words += ["--picture", str(tmp_path / "kept.png"), "--force"] if picture else []
    assert memguard(capsys, *words)[:2] == (
        0,
        f"no job that can be learned from is recorded in {tmp_path}/store\n",
    )
    keep(tmp_path / "store", [past_job(SORT, n, 80) for n in range(3)])
    status, out, _ = memguard(capsys, *words)
    assert (status, "no job was sized by a forecast yet" in out) == (0, True)
    assert (tmp_path / "kept.png").exists() == picture
    assert memguard(capsys, "estimate", "--calibration", "--episodes", "unset")[0] == 2


def test_what_tells_nothing_does_not_count(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Second tries, failures, deleted jobs; a death at the forecast is a miss, one below it is not known to be."""
    died = {"outcome": "budget_kill", "reason": "budget_kill", "budget_bytes": 100 * MIB}
    keep(
        tmp_path,
        [
            past_job(SORT, 1, 100, **died, **sized(100)),
            past_job(SORT, 2, 90, attempts=[{"outcome": "budget_kill"}], **sized(50)),
            past_job(SORT, 3, 70, outcome="raised", **sized(50)),
            past_job(SORT, 4, 90, **sized(10)),
            past_job(SORT, 5, 100, **died, **sized(200)),
        ],
    )
    with EpisodeStore(tmp_path) as store:
        store.delete("job-4")
    found = json.loads(
        memguard(capsys, "estimate", "--calibration", "--json", "--episodes", str(tmp_path))[1]
    )
    (sort,) = found["kinds"]
    assert (sort["jobs"], sort["attempts"], sort["misses"]) == (3, 1, 1)


def test_a_canvas_clips_what_lies_outside() -> None:
    """Fields, lines, discs and words that reach over an edge raise nothing and draw what is inside."""
    canvas = Canvas(20, 10)
    canvas.fill(-5, -5, 3, 3, (0, 0, 0))
    canvas.line([(-5, 5), (30, 5)], (255, 0, 0), 2)
    canvas.line([(10, -5), (10, 30)], (255, 0, 0), 2)
    canvas.disc(19, 9, 4, (0, 0, 255))
    canvas.text(-4, 8, "Ag\u00e9", (0, 0, 0))
    width, height, drawn = pixels(canvas.png())
    assert (width, height) == (20, 10)
    assert drawn[:9] == bytes(9)
    at = (5 * 20 + 6) * 3
    assert drawn[at : at + 3] == b"\xff\0\0"
    assert drawn[-3:] == b"\0\0\xff"


def test_every_letter_that_is_typed_has_a_shape() -> None:
    """Printable ASCII is drawn as itself, each letter unlike the others, and no row is wider than a letter."""
    letters = [chr(code) for code in range(32, 127)]
    shapes = [glyph(each) for each in letters]
    assert len(set(shapes)) == len(letters)
    assert glyph("\u2603") not in shapes
    assert all(row < 32 for shape in shapes for row in shape)
    assert text_width("ab", 2) == 22


def test_a_folder_that_cannot_be_looked_into_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What waits beside a store may be another user's: it is named, and nothing is shown in its place."""
    (tmp_path / "incoming").symlink_to("incoming")  # to look into it fails for everybody, the superuser too
    status, told, said = memguard(capsys, "estimate", "--calibration", "--episodes", str(tmp_path))
    assert status
    assert not told
    assert "incoming cannot be read" in said
