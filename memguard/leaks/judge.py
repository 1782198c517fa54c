"""The verdict: samples in, a report out. Pure; all thresholds are in channels.py and kinds.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from memguard.leaks.channels import Window, examine, window_of
from memguard.leaks.kinds import Growth, kind_of, measured_growth
from memguard.leaks.records import (
    CENSUS_SLACK_BYTES,
    CacheFill,
    Channel,
    ChannelFinding,
    Culprit,
    Explained,
    Kind,
    LeakReport,
    Shape,
    Verdict,
)
from memguard.leaks.series import CHANNELS, BlockEnd, Series
from memguard.leaks.sources import EXIT_HANDLERS
from memguard.units import format_bytes

__all__ = ["judge"]

# A bounded cache excuses growth if no more than this share of what objects explain grows outside of such caches.
_MOST_BESIDE_CACHES: Final = 0.25
# A collection at the end that takes back this much of what grew: then it was garbage.
_GARBAGE_SHARE: Final = 0.5
# A container that code empties, but nobody knows when, and that was not emptied for so long, is taken for a leak.
_LONGEST_SAW_TOOTH: Final = 100
# Ten of warm-up, and as many to look at.
_FEWEST_ITERATIONS: Final = 20
_LEAST_CULPRIT_SHARE: Final = 0.02
_LEAST_CULPRIT_BYTES: Final = 16.0
_ADVICE: Final = {
    Kind.PYTHON: "drop what the holder keeps, or bound it",
    Kind.CYCLE: "turn the collector on again, break the cycle, or call gc.collect() now and then",
    Kind.ARRAY: "drop what the holder keeps; where it is a view, keep a copy of the part instead of the whole base",
    Kind.CACHE: "give the cache a bound, or clear it between jobs",
    Kind.NATIVE: "no Python object holds it: run the work in a process that is recycled",
    Kind.MAPPING: "mappings are not given back: close them, or run the work in a process that is recycled",
    Kind.FD: "close what is opened, best with a with statement",
    Kind.THREAD: "end and join threads, or share a pool",
    Kind.SHARED_MEMORY: "unlink each segment once its last user is done",
}


def judge(
    series: Series,
    *,
    warm_up: int | None = None,
    explained: Explained | None = None,
    sources: Sequence[str] = (),
) -> LeakReport:
    """Say whether it leaks, how much and what.

    Args:
        series: samples and ends of blocks.
        warm_up: iterations to leave out; by default a quarter of all, ten at least.
        explained: what a census says of the same time; without it caches that fill cannot be told from leaks, and
            kinds only by counters.
        sources: sentences about native growth, as `likely_sources` has them, likeliest first.
    """
    window = window_of(series, warm_up)
    findings = _without_touched_pages(_examine_all(series, window), explained)
    case = _Case(window, findings, explained, tuple(sources))
    if not case.growing:
        return case.report_without_leak()
    if case.is_uncorroborated:
        return case.report_small()
    filling = case.filling()
    return case.report_filling(filling) if filling else case.report_leak()


def _examine_all(series: Series, window: Window) -> dict[Channel, ChannelFinding]:
    found = ((channel, examine(series, channel, window)) for channel in CHANNELS)
    return {channel: finding for channel, finding in found if finding is not None}


def _without_touched_pages(
    findings: dict[Channel, ChannelFinding], explained: Explained | None
) -> dict[Channel, ChannelFinding]:
    """Let private memory alone be no growth where the address space does not grow with it.

    Stacks of threads that come and go, and heaps that malloc keeps for them, are mapped once and touched page by page.
    What goes on for ever must be mapped anew sooner or later. Only where malloc's books are read: another allocator may
    have mapped gigabytes beforehand.
    """
    private, live = findings.get(Channel.USS), findings.get(Channel.LIVE)
    if private is None or not private.grows or live is None or explained is None:
        return findings
    alone = not any(each.grows for each in findings.values() if each is not private)
    unmapped = explained.mapped_bytes is not None and explained.mapped_bytes < private.slope / 2
    if not (alone and unmapped and explained.surely_bytes < private.slope / 2):
        return findings
    return findings | {Channel.USS: replace(private, shape=Shape.FADING)}


@dataclass(frozen=True, slots=True)
class _Case:
    """All that is known when it comes to a verdict."""

    window: Window
    findings: Mapping[Channel, ChannelFinding]
    explained: Explained | None
    sources: tuple[str, ...]

    @property
    def growing(self) -> list[ChannelFinding]:
        return [each for each in self.findings.values() if each.grows]

    @property
    def is_uncorroborated(self) -> bool:
        """Whether only blocks or objects are counted more, and no census finds more bytes than it errs by.

        Free lists and caches of sizes inside of libraries do that for hundreds of iterations, and end.
        """
        known = self.explained
        only_counted = {each.channel for each in self.growing} <= {Channel.BLOCKS, Channel.OBJECTS}
        if not only_counted or known is None:
            return False
        slack = CENSUS_SLACK_BYTES / max(1, known.iterations)
        # A container that fills tells more than the sum of all, which others may have made smaller meanwhile.
        filled = any(
            "entries/iteration" in each.holder and each.bytes_per_iteration > slack for each in known.culprits
        )
        return not filled and known.surely_bytes + known.unreachable_bytes <= 0

    def report_small(self) -> LeakReport:
        told = tuple(
            f"{each.channel} grows by {each.slope:.3g} an iteration, but by fewer bytes than a census errs by"
            for each in self.growing
        )
        more = 2 * self.window.stop
        return self._report(
            Verdict.INCONCLUSIVE, evidence=told, advice=f"{more} more iterations would decide", more=more
        )

    def filling(self) -> tuple[CacheFill, ...]:
        """Return the bounded caches that explain all growth; none if anything grows that they do not explain."""
        known = self.explained
        if known is None or self._counts_grow():
            return ()
        caches = tuple(each for each in known.filling if each.bound or self._is_short)
        if not caches:
            return ()
        growth = measured_growth(self.findings, known)
        native = self.findings.get(Channel.LIVE)
        heavier = growth is not None and growth.bytes > 3 * max(known.object_bytes, 1.0)
        if heavier and native is not None and native.grows:
            return ()
        most = _MOST_BESIDE_CACHES * known.object_bytes
        inside = sum(each.bytes_per_iteration for each in caches)
        beside = sum(each.bytes_per_iteration for each in known.culprits)
        beside += sum(each.bytes_per_iteration for each in known.filling if each not in caches)
        return caches if known.surely_bytes - inside <= most or beside <= most else ()

    @property
    def _is_short(self) -> bool:
        """Whether a buffer that is emptied at times may not have been, in so short a look."""
        return self.window.stop - self.window.start < _LONGEST_SAW_TOOTH

    def _counts_grow(self) -> bool:
        counted = (Channel.FDS, Channel.THREADS, Channel.SHARED)
        return any(each.channel in counted for each in self.growing)

    def report_filling(self, caches: Sequence[CacheFill]) -> LeakReport:
        more = max(each.iterations_to_full if each.bound else _LONGEST_SAW_TOOTH for each in caches)
        told = tuple(_filling_sentence(each) for each in caches[:5])
        # Once they are full it takes a look as long as this one to see that nothing else grows.
        more += self.window.stop - self.window.start
        advice = f"look again once the caches are full, after {more} more iterations"
        return self._report(Verdict.INCONCLUSIVE, evidence=told, advice=advice, more=more)

    def report_without_leak(self) -> LeakReport:
        open_questions = [each for each in self.findings.values() if _is_open(each)]
        if self.window.stop < _FEWEST_ITERATIONS:
            more = _FEWEST_ITERATIONS - self.window.stop
            few = f"{self.window.stop} iterations are too few to tell a trend"
            return self._report(
                Verdict.INCONCLUSIVE,
                evidence=(few,),
                advice=f"{more} more iterations would decide",
                more=more,
            )
        if not open_questions:
            return self._report(Verdict.STABLE)
        more = max(each.more_iterations for each in open_questions)
        told = tuple(f"{each.channel}: {_UNTOLD[each.shape]}" for each in open_questions)
        advice = f"{more} more iterations would decide"
        return self._report(Verdict.INCONCLUSIVE, evidence=told, advice=advice, more=more)

    def report_leak(self) -> LeakReport:
        growth = measured_growth(self.findings, self.explained)
        garbage = _was_garbage(self.window.ends, self.growing) or self._is_frozen_garbage(growth)
        compiled = any(each.startswith("numba") for each in self.sources)
        kind = kind_of(self.findings, growth, self.explained, garbage=garbage, compiled=compiled)
        at_exit = next((each for each in self.sources if each.startswith(EXIT_HANDLERS)), "")
        if at_exit and kind is Kind.NATIVE:
            kind = Kind.PYTHON  # no census sees what they hold, and nothing else does
        native = kind in (Kind.NATIVE, Kind.MAPPING)
        source = self.sources[0] if native and self.sources else ""
        return self._report(
            Verdict.LEAKING,
            kind=kind,
            growth=_of_kind(kind, self.findings, growth),
            evidence=(*self._growth_sentences(), *self._explained_sentence(growth), *self.sources),
            advice=_ADVICE[kind],
            source=source,
            holder=at_exit,
        )

    def _is_frozen_garbage(self, growth: Growth | None) -> bool:
        """Tell whether objects are frozen with each iteration that nothing leads to: no collector will find them."""
        objects, ends = self.findings.get(Channel.OBJECTS), self.window.ends
        if objects is None or not objects.grows or len(ends) < 2:
            return False
        frozen = ends[-1].frozen - ends[0].frozen
        size = growth.bytes if growth is not None else 0.0
        held = self.explained is not None and self.explained.surely_bytes > size / 2
        return frozen >= _GARBAGE_SHARE * objects.growth and not held

    def _growth_sentences(self) -> tuple[str, ...]:
        return tuple(
            f"{each.channel} grows by {_amount(each.channel, each.slope)} an iteration, steadily"
            for each in self.growing
        )

    def _explained_sentence(self, growth: Growth | None) -> tuple[str, ...]:
        if self.explained is None or growth is None or growth.bytes <= 0:
            return ()
        told = self.explained.object_bytes + self.explained.unreachable_bytes
        share = min(1.0, max(0.0, told / growth.bytes))
        return (
            f"Python objects explain {share:.0%} of {_amount(growth.channel, growth.bytes, True)} an iteration",
        )

    def _culprits(self, growth: Growth | None) -> tuple[Culprit, ...]:
        """Leave out what is too light to be it, unless it is a container that got more entries: a handle perhaps."""
        if self.explained is None:
            return ()
        emptied = (
            Culprit(
                "", f"{each.holder}: +{each.per_iteration:.3g} entries/iteration", each.bytes_per_iteration
            )
            for each in self.explained.filling
            if not each.bound
        )
        least = _LEAST_CULPRIT_SHARE * (growth.bytes if growth is not None else 0.0)
        return tuple(
            each
            for each in (*emptied, *self.explained.culprits)
            if each.bytes_per_iteration >= max(least, _LEAST_CULPRIT_BYTES)
            or "entries/iteration" in each.holder
        )

    def _report(
        self,
        verdict: Verdict,
        *,
        kind: Kind | None = None,
        growth: Growth | None = None,
        evidence: tuple[str, ...] = (),
        advice: str = "",
        more: int | None = None,
        source: str = "",
        holder: str = "",
    ) -> LeakReport:
        culprits = self._culprits(growth) if kind is not None else ()
        if holder:
            culprits = (Culprit("function", holder, growth.bytes if growth is not None else 0.0), *culprits)
        return LeakReport(
            verdict=verdict,
            bytes_per_iteration=growth.bytes if growth is not None else 0.0,
            interval=(growth.low, growth.high) if growth is not None else (0.0, 0.0),
            kind=kind,
            channels=tuple(self.findings.values()),
            iterations=self.window.stop,
            warm_up=self.window.start,
            culprits=culprits,
            evidence=evidence,
            advice=advice,
            more_iterations=more,
            source=source,
        )


_UNTOLD: Final = {
    Shape.UNCLEAR: "the look was too short to tell a trend",
    Shape.FADING: "grows less and less, and has not settled yet",
}


def _filling_sentence(cache: CacheFill) -> str:
    where = f" (see {cache.where})" if cache.where else ""
    if not cache.bound:
        return f"{cache.holder} has {cache.size} entries, and its own code empties it at times{where}"
    return f"{cache.holder} is a cache that is filling: {cache.size} of {cache.bound} entries{where}"


def _is_open(finding: ChannelFinding) -> bool:
    return finding.shape in _UNTOLD and finding.more_iterations > 0


def _was_garbage(ends: Sequence[BlockEnd], growing: Sequence[ChannelFinding]) -> bool:
    """Tell whether the collection at the end took back what grew, in a program whose collector is off.

    Objects that the program froze are out of any collector's reach, and garbage among them is as good as leaked.
    """
    if not ends or ends[-1].collecting or not ends[-1].found:
        return False
    for each in growing:
        if each.channel in (Channel.OBJECTS, Channel.BLOCKS):
            freed = ends[-1].before[each.channel] - ends[-1].after[each.channel]
            return freed >= _GARBAGE_SHARE * each.growth
    return False


def _of_kind(kind: Kind, findings: Mapping[Channel, ChannelFinding], growth: Growth | None) -> Growth | None:
    shared = findings.get(Channel.SHARED)
    if kind is Kind.SHARED_MEMORY and shared is not None:
        return Growth(shared.slope, shared.low, shared.high, shared.channel, 0.0)
    return growth


def _amount(channel: Channel, value: float, in_bytes: bool = False) -> str:
    if in_bytes or channel in (Channel.USS, Channel.LIVE, Channel.SHARED):
        return format_bytes(round(value))
    return f"{value:.3g}"
