"""Where native memory may come from: compilers that were busy, sources kept for tracebacks, mappings that grew."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from memguard.host.allocation import bytes_by_mapping, mapped_bytes_now
from memguard.units import format_bytes

__all__ = ["EXIT_HANDLERS", "NativeSources", "SourceReading", "likely_sources"]

EXIT_HANDLERS: Final = "exit handlers (atexit)"
# Of the growth; a mapping with less is not its source.
_LEAST_SHARE: Final = 0.2
_PLAIN: Final = frozenset({"anonymous", "heap", "stack"})


@dataclass(frozen=True, slots=True)
class SourceReading:
    """What possible sources of native memory had done at one moment.

    Attributes:
        iterations: how many were over.
        compilations: functions that numba had compiled since the watch began.
        source_texts: files whose lines `linecache` keeps.
        exit_handlers: functions that `atexit` holds; C code has them, where no census comes.
        mappings: private bytes by what they are mapped for, as `bytes_by_mapping` has it.
        mapped_bytes: of the whole address space, touched or not.
    """

    iterations: int
    compilations: int = 0
    source_texts: int = 0
    exit_handlers: int = 0
    mappings: Mapping[str, int] = field(default_factory=dict)
    mapped_bytes: int = 0


class NativeSources:
    """Counts what numba compiles from now on, and reads the rest when it is asked. Imports no library by itself."""

    def __init__(self) -> None:
        self._counter: Any = None
        self._event: Any = None
        self._watch_numba()

    def read(self, iterations: int) -> SourceReading:
        """Look; some milliseconds, since all mappings are walked."""
        self._watch_numba()
        kept = sys.modules.get("linecache")
        try:
            mappings = bytes_by_mapping()
        except OSError:
            mappings = {}  # a system without smaps
        return SourceReading(
            iterations=iterations,
            compilations=self._counter.compiled if self._counter is not None else 0,
            source_texts=len(kept.cache) if kept is not None else 0,
            exit_handlers=atexit._ncallbacks(),
            mappings=mappings,
            mapped_bytes=mapped_bytes_now(),
        )

    def _watch_numba(self) -> None:
        event = sys.modules.get("numba.core.event")
        if self._counter is not None or event is None or not hasattr(event, "Listener"):
            return
        self._event, self._counter = event, _counter_of(event)
        event.register("numba:compile", self._counter)

    def close(self) -> None:
        """Stop counting."""
        if self._counter is not None:
            self._event.unregister("numba:compile", self._counter)
            self._counter = None


def _counter_of(event: Any) -> Any:
    class Counter(event.Listener):  # type: ignore[misc]
        """Counts compilations as they end."""

        def __init__(self) -> None:
            self.compiled = 0

        def on_start(self, event: object) -> None:
            """Wait for the end."""

        def on_end(self, event: object) -> None:
            """Count one."""
            self.compiled += 1

    return Counter()


def likely_sources(first: SourceReading, last: SourceReading, growth_bytes: float) -> tuple[str, ...]:
    """Say what speaks for a source of native growth, likeliest first.

    Args:
        first: before the growth.
        last: after it.
        growth_bytes: how much grew in between.
    """
    iterations = max(1, last.iterations - first.iterations)
    found = []
    compiled = last.compilations - first.compilations
    if compiled >= 0.05 * iterations and compiled > 2:
        found.append(
            f"numba compiled {compiled} functions, {compiled / iterations:.2g} an iteration, and frees no machine code"
        )
    texts = last.source_texts - first.source_texts
    if texts >= 0.05 * iterations and texts > 2:
        found.append(f"linecache keeps {texts} more source texts, {texts / iterations:.2g} an iteration")
    handlers = last.exit_handlers - first.exit_handlers
    if handlers >= 0.05 * iterations and handlers > 2:
        found.append(
            f"{EXIT_HANDLERS}: {handlers} more, {handlers / iterations:.2g} an iteration, with what they hold"
        )
    return (*found, *_grown_mappings(first.mappings, last.mappings, growth_bytes))


def _grown_mappings(first: Mapping[str, int], last: Mapping[str, int], growth_bytes: float) -> list[str]:
    grown = {name: size - first.get(name, 0) for name, size in last.items() if name not in _PLAIN}
    names = {"executable": "memory that may be run, as a compiler makes it,"}
    return [
        f"{names.get(name, f'private pages of {name}')} grew by {format_bytes(more)}"
        for name, more in sorted(grown.items(), key=lambda item: -item[1])
        if growth_bytes > 0 and more >= max(_LEAST_SHARE * growth_bytes, 64 * 1024)
    ]
