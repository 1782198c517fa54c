"""What leaks: told by the bytes that Python objects explain beside the bytes that grew. Pure.

Which counters moved does not tell. Code that numba compiles is six objects of the collector's and 700 KiB of native
memory with each function; an array is two blocks of Python's allocator and all its buffer in malloc.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from memguard.leaks.records import Channel, ChannelFinding, Explained, Kind

__all__ = ["Growth", "kind_of", "measured_growth"]

# From here on it is Python's. Sizes of objects leave out what allocators round up, and hash tables grow in leaps, so
# that even a plain list of objects rarely explains all.
_EXPLAINED: Final = 0.5
# A descriptor costs the process next to nothing, a thread its stack as far as it was used and its own heap. What
# takes more with each of them leaks memory, and holds descriptors or threads by the way.
_MOST_BYTES_OF_A_DESCRIPTOR: Final = 32 * 1024
_MOST_BYTES_OF_A_THREAD: Final = 1024**2
# pymalloc's blocks are 16 to 512 bytes; without a census this is what one is taken for.
_TYPICAL_BLOCK_BYTES: Final = 80
_LARGEST_BLOCK_BYTES: Final = 512
_SMALLEST_BLOCK_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Growth:
    """How many bytes an iteration, and who says so.

    Attributes:
        bytes: per iteration.
        low: lower end of its interval.
        high: upper end.
        channel: the channel that was believed.
        native_bytes: the part of it that malloc has, as far as that was read.
    """

    bytes: float
    low: float
    high: float
    channel: Channel
    native_bytes: float


def measured_growth(findings: Mapping[Channel, ChannelFinding], explained: Explained | None) -> Growth | None:
    """Return the memory that grows; ``None`` if none does, or what grows is not memory.

    Private memory counts all, but in pages; malloc's books count to the byte, but leave out small objects and
    mappings. So the larger one is believed of those that grow, and where only counts of objects grow, the census.
    """
    live = findings.get(Channel.LIVE)
    native = live.slope if live is not None and live.grows else 0.0
    grown = [
        each
        for channel in (Channel.USS, Channel.LIVE)
        if (each := findings.get(channel)) is not None and each.grows
    ]
    small = _small_objects(findings, explained)
    if grown:
        most = max(grown, key=lambda each: each.slope)
        if small is None or most.slope >= small.bytes or most.channel is Channel.USS:
            return Growth(most.slope, most.low, most.high, most.channel, native)
    return small


def _small_objects(findings: Mapping[Channel, ChannelFinding], explained: Explained | None) -> Growth | None:
    counted = findings.get(Channel.BLOCKS) or findings.get(Channel.OBJECTS)
    if counted is None or not counted.grows:
        counted = findings.get(Channel.OBJECTS)
    if counted is None or not counted.grows:
        return None
    size = counted.slope * _TYPICAL_BLOCK_BYTES
    if explained is not None:
        # A census can miss what C code holds; but then no block is smaller than the allocator's smallest one.
        # Who holds it tells it without what other objects did meanwhile.
        told = sum(each.bytes_per_iteration for each in explained.culprits if each.holder)
        told = told or explained.object_bytes + explained.unreachable_bytes
        size = told if told >= counted.slope * _SMALLEST_BLOCK_BYTES else size
    share_low, share_high = counted.low / counted.slope, counted.high / counted.slope
    return Growth(size, size * share_low, size * share_high, counted.channel, 0.0)


def kind_of(
    findings: Mapping[Channel, ChannelFinding],
    growth: Growth | None,
    explained: Explained | None,
    *,
    garbage: bool,
    compiled: bool,
) -> Kind:
    """Tell what leaks, given that something does.

    Args:
        findings: by channel.
        growth: what `measured_growth` made of them.
        explained: what a census says; without, counters have to do.
        garbage: whether what grew was garbage that nobody collects.
        compiled: whether a compiler was at work with each iteration.
    """
    counted = _counted_kind(findings, growth)
    if counted is not None:
        return counted
    if garbage or growth is None:
        return Kind.CYCLE if garbage else Kind.PYTHON
    if explained is None:
        return _by_counters(findings, growth, compiled=compiled)
    return _by_census(findings, growth, explained, compiled=compiled)


def _by_census(
    findings: Mapping[Channel, ChannelFinding], growth: Growth, explained: Explained, *, compiled: bool
) -> Kind:
    if not compiled and _is_past_malloc(findings, growth):
        return Kind.MAPPING
    # Blocks and objects are Python's by definition; where nothing but their number grows no byte is anybody else's.
    only_counted = growth.channel in (Channel.BLOCKS, Channel.OBJECTS)
    if only_counted or explained.surely_bytes >= _EXPLAINED * growth.bytes:
        return _of_objects(explained)
    return _past_python(growth, explained.object_bytes, compiled=compiled)


def _counted_kind(findings: Mapping[Channel, ChannelFinding], growth: Growth | None) -> Kind | None:
    weight = growth.bytes if growth is not None else 0.0
    shared, threads, fds = (findings.get(each) for each in (Channel.SHARED, Channel.THREADS, Channel.FDS))
    if shared is not None and shared.grows and shared.slope >= weight / 2:
        return Kind.SHARED_MEMORY
    if threads is not None and threads.grows and weight <= _MOST_BYTES_OF_A_THREAD * threads.slope:
        return Kind.THREAD
    if fds is not None and fds.grows and weight <= _MOST_BYTES_OF_A_DESCRIPTOR * fds.slope:
        return Kind.FD
    return None


def _of_objects(explained: Explained) -> Kind:
    # A cache of arrays is a cache: who holds says what to mend.
    if explained.unbounded:
        return Kind.CACHE
    return Kind.ARRAY if explained.array_bytes > max(0.0, explained.object_bytes) / 2 else Kind.PYTHON


def _is_past_malloc(findings: Mapping[Channel, ChannelFinding], growth: Growth) -> bool:
    """Tell whether neither malloc nor Python's own allocator has what grew, whoever may hold it."""
    live, blocks = findings.get(Channel.LIVE), findings.get(Channel.BLOCKS)
    if growth.channel is not Channel.USS or live is None or blocks is None:
        return False
    return max(0.0, live.slope) + max(0.0, blocks.slope) * _LARGEST_BLOCK_BYTES < growth.bytes / 2


def _past_python(growth: Growth, explained_bytes: float, *, compiled: bool) -> Kind:
    """Tell malloc from mappings; a compiler's code is native wherever it puts it."""
    unexplained = growth.bytes - explained_bytes
    malloced = growth.native_bytes - explained_bytes
    return Kind.NATIVE if compiled or malloced >= unexplained / 2 else Kind.MAPPING


def _by_counters(findings: Mapping[Channel, ChannelFinding], growth: Growth, *, compiled: bool) -> Kind:
    blocks = findings.get(Channel.BLOCKS)
    if compiled or blocks is None or not blocks.grows:
        return _past_python(growth, 0.0, compiled=compiled)
    if growth.bytes <= blocks.slope * _LARGEST_BLOCK_BYTES:
        return Kind.PYTHON
    # Some blocks and many more bytes: buffers that objects own. A few objects are handles, of arrays most often.
    return Kind.ARRAY if growth.native_bytes >= growth.bytes / 2 else Kind.MAPPING
