"""How well past forecasts were kept, for ``memguard estimate --calibration``: the way from the store to the screen."""

from __future__ import annotations

import json
from pathlib import Path

from memguard.cli.calibration_view import document, print_records
from memguard.cli.exits import EXIT_OK, say, show
from memguard.config import Settings
from memguard.errors import DataError
from memguard.files import check_output, whole_file
from memguard.forecasting.journal import MOST_JOBS, Entry, entries_of
from memguard.forecasting.reliability import Record, records_of

__all__ = ["show_calibration"]


def show_calibration(
    settings: Settings, kind: str, picture: Path | None, *, force: bool, as_json: bool
) -> int:
    """Print the record of each kind, and draw it where that is asked for; returns the exit status.

    Args:
        settings: whose store, and the stated rate.
        kind: only of kinds that have this text in them, whatever the case.
        picture: where to draw.
        force: whether to replace that file.
        as_json: whether to print a document.

    Raises:
        DataError: if no jobs are recorded, or the picture is to be no PNG.
        EpisodeStoreError: if the store cannot be read.
        OutputError: if the picture cannot be written.
    """
    if picture is not None:
        _check_picture(picture, force=force)
    if settings.episodes is None:
        raise DataError(
            "no jobs are recorded, so there is no past to reckon with",
            subject="episodes = unset",
            remedy="set episodes to auto, or name a folder with --episodes",
        )
    entries = [each for each in entries_of(settings.episodes) if _is_meant(each, kind)]
    records = records_of(entries, settings.miss_rate)
    if as_json:
        show(json.dumps(document(records, settings.miss_rate), indent=2))
    else:
        print_records(records, settings.miss_rate, str(settings.episodes))
    if len(entries) >= MOST_JOBS:
        say(f"only the last {MOST_JOBS:,} jobs were looked at")
    if picture is not None:
        _draw(picture, records, settings.miss_rate, force=force)
    return EXIT_OK


def _is_meant(entry: Entry, kind: str) -> bool:
    return kind.lower() in entry.job.kind.lower()


def _check_picture(picture: Path, *, force: bool) -> None:
    if picture.suffix.lower() != ".png":
        raise DataError("is no PNG file", subject=str(picture), remedy="give a name that ends with .png")
    check_output(picture, force=force)


def _draw(picture: Path, records: tuple[Record, ...], miss_rate: float, *, force: bool) -> None:
    from memguard.cli.calibration_picture import picture_of  # noqa: PLC0415 - only who asks for it pays for it

    with whole_file(picture, force=force) as beside:
        beside.write_bytes(picture_of(records, miss_rate))
