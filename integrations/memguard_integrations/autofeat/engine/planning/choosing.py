"""Engineering and selecting within what can be had: whole where it can be, with less where it must.

What is short may show before the start, by a forecast, or on the way: a disk that is full, a job that is asked to go
on with less. On the way all is let go, and begun anew with less; nothing of the first try is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from memguard.errors import CapacityExceeded
from memguard.estimate import (
    AutoFeatCounts,
    AutoFeatRequest,
    Relief,
    bound_counts,
    copied_bytes,
    lightest_loss,
)
from memguard.units import format_bytes
from memguard_integrations.autofeat.engine.estimators import fitting
from memguard_integrations.autofeat.engine.estimators.watching import watch_now, watched
from memguard_integrations.autofeat.engine.planning.needs import (
    LEAST_MEMORY_BYTES,
    LEAST_SELECTION_BYTES,
    Room,
    needed_bytes,
    spilled_bytes,
)
from memguard_integrations.autofeat.engine.planning.told import LightMode, tell_light
from memguard_integrations.autofeat.engine.scratch import ScratchFull, scratch_folder, scratch_free_bytes

if TYPE_CHECKING:
    from memguard_integrations.autofeat.engine.estimators.fitting import Chosen, FitRequest

__all__ = ["Forecast", "choose_within", "count_columns", "forecast"]

_PILOT_ROWS: Final = 1_000
# So often a fit begins anew with less.
_MOST_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is known of a fit before it begins.

    Attributes:
        counts: of its columns; ``None`` where nobody counted.
        relief: what is to be left out; ``None`` for nothing.
    """

    counts: AutoFeatCounts | None = None
    relief: Relief | None = None


_forecast: ContextVar[Forecast] = ContextVar("memguard_autofeat_forecast", default=Forecast())  # noqa: B039 - frozen


@contextmanager
def forecast(known: Forecast) -> Iterator[None]:
    """Have fits in a ``with`` block know what was counted and decided before."""
    token = _forecast.set(known)
    try:
        yield
    finally:
        _forecast.reset(token)


class _Short(BaseException):
    """Less is to be done, from here on; no error, and nobody else's to catch."""


def choose_within(
    frame: pd.DataFrame, target: NDArray[Any], start: Sequence[str], request: FitRequest
) -> tuple[Chosen, tuple[str, ...]]:
    """Engineer features from some columns of a frame and select the good ones, as far as memory and disk go.

    Args:
        frame: numeric, every value finite.
        target: shape (n_rows,).
        start: the columns to engineer from.
        request: how; its guards bound it.

    Returns:
        What was chosen, and what was left out for it, in words.

    Raises:
        CapacityExceeded: classes cannot be selected for in so little memory, and nothing may be left out.
        ScratchFull: the disk has no room for what does not fit, and nothing may be left out or nothing helps.
        DataError: as `fitting.choose`.
    """
    if request.steps < 1:
        return fitting.choose(frame, target, start, request), ()
    return _Choosing(frame, target, start, request).run()


class _Choosing:
    """One fit's choice, in as many tries as it takes."""

    def __init__(
        self, frame: pd.DataFrame, target: NDArray[Any], start: Sequence[str], request: FitRequest
    ) -> None:
        self._frame, self._target, self._start, self._request = frame, target, start, request
        self._whole = AutoFeatRequest(
            rows=len(frame),
            columns=frame.shape[1],
            steps=request.steps,
            transformations=len(request.transformations),
            classes=request.problem_type == "classification" and request.selects,
        )
        self._known = _forecast.get()
        self._relief = self._known.relief
        self._selection_bytes: int | None = None
        self._heeds = request.guards.light
        self._room = Room(request.guards.memory_bytes, self._free_bytes())

    def run(self) -> tuple[Chosen, tuple[str, ...]]:
        if self._relief is None and not self._can_be_had():
            self._lighten("there is not room for all of it", self._room)
        for _ in range(_MOST_TRIES):
            try:
                return self._try(), self._left_out()
            except ScratchFull as error:
                full = error.with_traceback(None)
            except _Short:
                full = None
            # Not from within: what the error came through holds columns, and with them memory and disk.
            self._do_with_less(full)
        self._heeds = False
        return self._try(), self._left_out()

    def _try(self) -> Chosen:
        relief, request, frame, target = self._relief, self._request, self._frame, self._target
        guards = replace(
            request.guards, memory_bytes=self._room.memory_bytes, selection_bytes=self._selection_share()
        )
        request = replace(request, guards=guards)
        if relief is None:
            with self._heeding():
                return fitting.choose(frame, target, self._start, request)
        if relief.select_rows:
            rows = some_rows(target, relief.select_rows, classes=self._whole.classes)
            frame, target = frame.iloc[rows].reset_index(drop=True), target[rows]
        request = replace(request, steps=relief.steps, transformations=relief.transformations)
        with self._heeding():
            if relief.most_columns:
                screen = self._screened(frame, target, request, relief.most_columns)
                request = replace(request, accepts=screen.takes)
            return fitting.choose(frame, target, self._start, request)

    def _screened(self, frame: pd.DataFrame, target: NDArray[Any], request: FitRequest, most: int) -> Any:
        from memguard_integrations.autofeat.engine.planning.screen import Screen  # noqa: PLC0415 - only where used

        screen = Screen(frame.reset_index(drop=True), target, classes=self._whole.classes, most=most)
        _expanded(frame, self._start, request, accepts=screen.score)
        screen.close()
        return screen

    @contextmanager
    def _heeding(self) -> Iterator[None]:
        """Have the fit end where it is asked to go on with less, and may."""
        watch = watch_now()

        def heed() -> None:
            if self._heeds and watch.is_short():
                self._heeds = self._may_be_less()
                if self._heeds:
                    raise _Short

        def step() -> None:
            watch.on_step()
            heed()

        def expansion(step_now: int, steps: int, columns: int) -> None:
            watch.on_expansion(step_now, steps, columns)
            heed()

        with watched(replace(watch, on_step=step, on_expansion=expansion)):
            yield

    def _selection_share(self) -> int | None:
        if self._selection_bytes is not None:
            return self._selection_bytes
        # Copies of rows are made whatever is left for them: what they need is kept free of columns.
        return copied_bytes(*self._light_request()) or None

    def _can_be_had(self) -> bool:
        memory = self._room.memory_bytes
        if memory is None:
            return True
        bound = bound_counts(self._whole)
        if not spilled_bytes(self._whole, bound, memory) and copied_bytes(self._whole, bound) <= memory:
            return True
        return self._room.has(self._whole, self._counts())

    def _counts(self) -> AutoFeatCounts:
        """Return how many columns there are going to be; counted on a few rows where nobody did so before."""
        if self._known.counts is None:
            rows = some_rows(self._target, _PILOT_ROWS, classes=self._whole.classes)
            frame = self._frame.iloc[rows].reset_index(drop=True)
            made, kept = _expanded(frame, self._start, self._request)
            self._known = replace(self._known, counts=AutoFeatCounts(made, kept, len(rows)))
        counts = self._known.counts
        assert counts is not None
        return counts

    def _do_with_less(self, full: ScratchFull | None) -> None:
        """Decide how the next try is made, after one that met a full disk or was asked to take less.

        Raises:
            ScratchFull: the disk is full, and there is no other way.
        """
        if full is None:
            self._heed()
            return
        self._room = replace(self._room, scratch_bytes=self._free_after(full))
        if self._selection_bytes is None and self._room.holds(*self._light_request()):
            self._selection_bytes = max(LEAST_SELECTION_BYTES, copied_bytes(*self._light_request()))
            return
        if not self._request.guards.light:
            raise full
        self._lighten("the scratch directory is full", self._room, full)

    def _may_be_less(self) -> bool:
        """Whether there is less to do than what is tried; where not, a fit that began anew would be the same."""
        counts = self._known.counts or bound_counts(self._whole)
        return self._lightest(Room(None, 0), counts) is not None

    def _heed(self) -> None:
        """Do less in half the memory, or else in as much; where nothing is less, go on and ask no more."""
        memory, counts = self._room.memory_bytes, self._counts()
        if memory is None:
            memory = needed_bytes(*self._light_request())
        halved = Room(max(memory // 2, min(memory, LEAST_MEMORY_BYTES)), self._free_bytes())
        found = self._lightest(halved, counts) or self._lightest(self._room, counts)
        if found is None:
            self._heeds = False
            return
        self._room = halved
        # How much there was for it nobody knows: others use the same memory.
        self._take(found, LightMode((), needed_bytes(self._whole, counts), 0, "memory ran short on the way"))

    def _free_bytes(self) -> int:
        return scratch_free_bytes(self._request.guards.scratch_dir)

    def _free_after(self, full: ScratchFull) -> int:
        """Return how much is free now that nothing of the try is left; less than what it was to take, which it had not.

        A quota is not told, and a forecast may be wrong.
        """
        free = self._free_bytes()
        if self._room.memory_bytes is None or not replace(self._room, scratch_bytes=free).has(
            *self._light_request()
        ):
            return free
        spilled = spilled_bytes(*self._light_request(), self._room.memory_bytes)
        return min(free, max(full.free_bytes, spilled // 2))

    def _light_request(self) -> tuple[AutoFeatRequest, AutoFeatCounts]:
        counts, relief = self._known.counts or bound_counts(self._whole), self._relief
        if relief is None:
            return self._whole, counts
        return relief.applied(self._whole, counts)

    def _lighten(self, why: str, room: Room, full: ScratchFull | None = None) -> None:
        """Choose what to leave out for a room, and tell it.

        Raises:
            CapacityExceeded, ScratchFull: nothing may be left out, or nothing helps.
        """
        counts = self._counts()
        found = self._lightest(room, counts) if self._request.guards.light else None
        if found is None:
            raise full or self._refusal(counts)
        memory, copies = room.memory_bytes or 0, copied_bytes(self._whole, counts)
        if copies > memory:
            told = LightMode((), copies, memory, "memory has no room for the rows that selecting copies")
        else:
            told = LightMode((), needed_bytes(self._whole, counts), memory + room.scratch_bytes, why)
        self._take(found, told)

    def _lightest(self, room: Room, counts: AutoFeatCounts) -> Relief | None:
        """Return what loses least of all that a room has and that needs less than what was tried."""
        before = needed_bytes(*self._light_request())

        def fits(request: AutoFeatRequest, fewer: AutoFeatCounts) -> bool:
            return needed_bytes(request, fewer) < before and room.has(request, fewer)

        return lightest_loss(self._whole, counts, self._request.transformations, fits)

    def _take(self, relief: Relief, told: LightMode) -> None:
        self._relief, self._selection_bytes = relief, None
        tell_light(LightMode(self._left_out(), told.needed_bytes, told.had_bytes, told.why))

    def _left_out(self) -> tuple[str, ...]:
        if self._relief is None:
            return ()
        return self._relief.left_out(self._whole, self._request.transformations)

    def _refusal(self, counts: AutoFeatCounts) -> Exception:
        memory = self._room.memory_bytes or 0
        copies = copied_bytes(self._whole, counts)
        if copies > memory:
            return CapacityExceeded(
                f"selecting for classes copies rows of {counts.kept:,} columns, {format_bytes(copies)}, and memory is "
                f'{format_bytes(memory)}; give more memory, fewer steps or transformations, or light_mode="auto"',
                requested_bytes=copies,
                capacity_bytes=memory,
                limited_by="memory",
            )
        return ScratchFull(
            path=scratch_folder(self._request.guards.scratch_dir),
            needed_bytes=spilled_bytes(self._whole, counts, memory),
            free_bytes=self._room.scratch_bytes,
        )


def some_rows(target: NDArray[Any], most: int, *, classes: bool) -> NDArray[np.intp]:
    """Return some rows, in order, always the same ones; of classes the same share of each, but no fewer than five.

    Args:
        target: shape (rows,).
        most: how many, about.
        classes: whether the target tells classes.
    """
    random = np.random.RandomState(0)
    if most >= len(target):
        return np.arange(len(target))
    if not classes:
        return np.sort(random.permutation(len(target))[:most])
    chosen = []
    for label in np.unique(target):
        rows = np.flatnonzero(np.asarray(target) == label)
        share = max(5, round(most * len(rows) / len(target)))
        chosen.append(random.permutation(rows)[:share])
    return np.sort(np.concatenate(chosen))


def count_columns(frame: pd.DataFrame, start: Sequence[str], request: FitRequest) -> tuple[int, int]:
    """Return how many columns a request makes of a frame: held at once, and kept."""
    return _expanded(frame, start, request)


def _expanded(
    frame: pd.DataFrame, start: Sequence[str], request: FitRequest, *, accepts: Any = None
) -> tuple[int, int]:
    from memguard_integrations.autofeat.engine.expansion import expand  # noqa: PLC0415 - loads numba and sympy

    watch = watch_now()
    with expand(
        frame.reset_index(drop=True),
        list(start),
        dict(request.units) if request.units else None,
        request.steps,
        request.transformations,
        memory_bytes=request.guards.memory_bytes,
        scratch_dir=request.guards.scratch_dir,
        accepts=accepts,
        on_progress=lambda told: watch.on_expansion(told.step, told.steps, told.columns),
    ) as expansion:
        kept = len(expansion.names)
    return kept, kept
