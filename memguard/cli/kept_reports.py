"""Where the report of a job goes that a command ran, and its way there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from memguard.cli.exits import say
from memguard.config import LogLevel
from memguard.errors import OutputError
from memguard.files import whole_file
from memguard.report import JobReport, report_to_json

__all__ = ["ReportWish"]


@dataclass(frozen=True, slots=True)
class ReportWish:
    """Whether a report is to be kept, and where.

    Attributes:
        file: what --report names.
        folder: the setting ``report_dir``; it counts where no file is named.
        force: replace a file that is there.
    """

    file: Path | None
    folder: Path | None
    force: bool

    def place_for(self, job_id: str) -> Path | None:
        """Return the file for a job's report, ``None`` where none is to be kept."""
        if self.file is not None or self.folder is None:
            return self.file
        return self.folder / f"{job_id}.json"

    def keep(self, report: JobReport) -> None:
        """Write a report where it is to be kept; a folder of the settings is made.

        Raises:
            OutputError: if it cannot be written.
        """
        place = self.place_for(report.job_id)
        if place is None:
            return
        if self.file is None:
            _make_folder(place)
        with whole_file(place, force=self.force) as beside:
            beside.write_text(json.dumps(report_to_json(report), indent=2) + "\n", encoding="utf-8")

    def keep_or_say(self, report: JobReport) -> bool:
        """Like `keep`, where something else is what counts: a failure is said. Returns whether all went well."""
        try:
            self.keep(report)
        except OutputError as error:
            say(str(error), LogLevel.ERROR)
            return False
        return True


def _make_folder(place: Path) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = f"{error.strerror or error}; correct the setting report_dir, or make room"
        raise OutputError(f"{place} could not be written: {why}", path=str(place)) from error
