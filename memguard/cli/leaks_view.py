"""Words and JSON for what `memguard leaks` found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from memguard.cli.exits import printable
from memguard.leaks.allocated import Allocation
from memguard.leaks.findings import Findings
from memguard.leaks.records import Culprit, Kind, LeakReport, Verdict
from memguard.leaks.wording import tell_rate, worth_telling
from memguard.units import format_bytes

__all__ = ["describe", "document"]


def document(found: Findings) -> dict[str, Any]:
    """Return the document of the schema ``memguard.leaks/1``."""
    return {
        **found.report.to_json(),
        "target": found.target,
        "unit": found.unit,
        "stopped": found.stopped,
        "allocated": [each.to_json() for each in found.allocated],
    }


def describe(found: Findings) -> Iterator[str]:
    """Yield the lines for people."""
    report = found.report
    yield printable(f"{found.target}: {_headline(found)}")
    rows = [("looked at", _looked_at(found)), *_culprit_rows(report, found.unit)]
    if report.source:
        rows.append(("source", report.source))
    rows += [("allocated at", _site(each)) for each in found.allocated]
    if found.stopped:
        rows.append(("stopped", found.stopped))
    rows += [("because", each) for each in report.evidence if each not in (found.stopped, report.source)]
    if report.advice:
        rows.append(("what next", report.advice))
    width = max(len(name) for name, _ in rows)
    previous = ""
    for name, text in rows:
        yield printable(f"  {name if name != previous else '':<{width}}  {text}")
        previous = name


def _headline(found: Findings) -> str:
    report = found.report
    if report.verdict is not Verdict.LEAKING:
        return report.verdict.value
    kind = "" if report.kind is None else f", {report.kind.value.replace('_', ' ')}"
    rate = tell_rate(report)
    if not rate:
        return f"leaking{kind}"
    low, high = (format_bytes(round(end)) for end in report.interval)
    span = "" if report.kind in (Kind.FD, Kind.THREAD) else f" ({low} to {high})"
    return f"leaking{kind}, {rate} per {found.unit}{span}"


def _looked_at(found: Findings) -> str:
    report = found.report
    what = f"{report.iterations} iterations" if found.unit == "iteration" else f"{report.iterations} samples"
    if report.verdict is Verdict.LEAKING or report.channels:
        return f"{what}, the first {report.warm_up} left out"
    return what


def _culprit_rows(report: LeakReport, unit: str) -> Iterator[tuple[str, str]]:
    for each in worth_telling(report):
        yield (
            "who holds it",
            f"{each.holder or 'no name leads to it'} ({_size(each)} per {unit}, {each.type})",
        )
        if each.chain:
            yield "", f"way: {' -> '.join(each.chain)}"


def _size(culprit: Culprit) -> str:
    return format_bytes(round(culprit.bytes_per_iteration))


def _site(site: Allocation) -> str:
    path = os.path.relpath(site.file) if site.file.startswith(os.getcwd() + os.sep) else site.file
    return f"{path}:{site.line} ({format_bytes(round(site.bytes_per_iteration))} per iteration)"
