"""Runs a test again and again and fails it if it leaks; what pytest itself collects meanwhile is taken out."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest

from memguard.errors import SizeSyntaxError
from memguard.leaks.detector import LeakDetector
from memguard.leaks.records import Kind, LeakReport, Verdict
from memguard.leaks.wording import tell_rate, worth_telling
from memguard.units import format_bytes, parse_bytes

__all__ = ["Wish", "check_call", "check_item", "wish_of"]

# Of these a single one an iteration is a leak, whatever it weighs.
_COUNTED: Final = (Kind.FD, Kind.THREAD, Kind.SHARED_MEMORY)
_PER_ITERATION: Final = ("/iteration", "per iteration", "an iteration")


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of a test.

    Attributes:
        iterations: how often it is run, 10 or more.
        limit_bytes: what an iteration may keep.
    """

    iterations: int = 40
    limit_bytes: int = 1024


def wish_of(asked: Mapping[str, Any]) -> Wish:
    """Read what a mark or a call asks for; a mistake in it fails the test."""
    unknown = asked.keys() - {"iterations", "limit"}
    if unknown:
        pytest.fail(f"leakcheck knows iterations and limit, not {', '.join(sorted(unknown))}", pytrace=False)
    iterations = asked.get("iterations", Wish().iterations)
    if type(iterations) is not int or iterations < 10:
        pytest.fail(f"leakcheck: iterations must be a number from 10 on, not {iterations!r}", pytrace=False)
    return Wish(iterations, _limit(asked.get("limit", Wish().limit_bytes)))


def _limit(value: str | int) -> int:
    text = value
    if isinstance(text, str):
        for ending in _PER_ITERATION:
            text = text.strip().removesuffix(ending)
    if text == 0 or (isinstance(text, str) and text.strip() == "0"):
        return 0
    with contextlib.suppress(SizeSyntaxError):
        return parse_bytes(text)
    pytest.fail(
        f"leakcheck: limit: {value!r} is not a size; write 1 KiB, 1 KiB/iteration, 4096, or 0", pytrace=False
    )


def check_call(function: Callable[[], object], wish: Wish) -> LeakReport:
    """Call a function again and again and fail the test if it leaks."""
    detector = LeakDetector(wish.iterations)
    for number in range(wish.iterations):
        try:
            function()
        except Exception as error:
            error.add_note(f"memguard: in iteration {number + 1} of {wish.iterations} of the leak check")
            raise
        detector.iteration()
    report = detector.finish()
    if _is_too_much(report, wish):
        pytest.fail(_told(report, wish), pytrace=False)
    return report


def check_item(item: pytest.Function, wish: Wish) -> None:
    """Run a test again and again, with the fixtures that it has, and fail it if it leaks."""

    def once() -> None:
        with _nothing_collected(item):
            # By the hook, so that whoever runs coroutines or benchmarks does it here too.
            item.ihook.pytest_pyfunc_call(pyfuncitem=item)

    report = check_call(once, wish)
    if report.verdict is Verdict.INCONCLUSIVE:
        item.add_report_section(
            "call", "leakcheck", f"inconclusive: {'; '.join(report.evidence)}; {report.advice}"
        )


@contextlib.contextmanager
def _nothing_collected(item: pytest.Function) -> Iterator[None]:
    """Keep pytest from collecting log records and warnings of every iteration: that would grow."""
    for handler in logging.getLogger().handlers:
        if type(handler).__module__ == "_pytest.logging" and hasattr(handler, "reset"):
            handler.reset()
    recorder = item.funcargs.get("recwarn")
    if isinstance(recorder, pytest.WarningsRecorder):
        recorder.clear()
        yield
        return
    with warnings.catch_warnings(record=True):
        yield


def _is_too_much(report: LeakReport, wish: Wish) -> bool:
    if not report.is_leaking:
        return False
    return report.kind in _COUNTED or report.bytes_per_iteration > wish.limit_bytes


def _told(report: LeakReport, wish: Wish) -> str:
    kind = "" if report.kind is None else f" ({report.kind.value.replace('_', ' ')})"
    lines = [f"leaks {tell_rate(report) or 'memory'} an iteration{kind}, {_limit_told(report, wish)}"]
    culprits = worth_telling(report)
    lines += [f"  held by {each.holder or 'no name'}: {each.type}; {each.why}" for each in culprits]
    lines += [f"    {' -> '.join(each.chain)}" for each in culprits[:1] if each.chain]
    lines += [f"  {each}" for each in report.evidence]
    lines.append(f"  {report.iterations} iterations, the first {report.warm_up} left out; {report.advice}")
    return "\n".join(lines)


def _limit_told(report: LeakReport, wish: Wish) -> str:
    if report.kind in _COUNTED:
        return "none is allowed"
    return f"{format_bytes(wish.limit_bytes)} are allowed" if wish.limit_bytes else "nothing is allowed"
