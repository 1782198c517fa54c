"""Objects cross between processes in anonymous shared memory, arrays without a copy on arrival.

Comes in: any object. Goes out: a memfd that holds its pickle (protocol 5, PEP 574) and, beside it, each large
buffer at a page boundary; on the other side the arrays lie directly on that memory. A memfd has no name, so
nothing can be left behind: it is gone with its last descriptor and mapping, however the processes end.
"""

from __future__ import annotations

import json
import mmap
import os
import pickle
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cloudpickle

from memguard.errors import TransferError
from memguard.host.descriptors import Descriptors
from memguard.worker.mapping import PageReturn, map_part
from memguard.worker.protocol import open_above_streams

__all__ = ["Packed", "create_segment", "pack", "pickle_outside", "unpack", "write_packed"]

_PAGE: Final = mmap.PAGESIZE
_HEAD: Final = struct.Struct("<Q")
# Below this a buffer travels inside the pickle: a mapping costs a descriptor and two system calls.
_SMALLEST_BUFFER_BYTES: Final = 64 * 1024
# A process may have 65,530 mappings (vm.max_map_count); beyond this many of one result, the small ones share one.
_MOST_MAPPINGS: Final = 64
# Linux caps one write at 2 GiB minus a page.
_CHUNK_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Packed:
    """An object ready to cross.

    Attributes:
        head: the JSON header: where pickle and buffers lie.
        pickle: the in-band part.
        buffers: the out-of-band parts, flat bytes, still the sender's own memory.
        offsets: where each buffer goes, the largest first.
        total_bytes: size of the segment that holds it all.
    """

    head: bytes
    pickle: bytes
    buffers: tuple[memoryview, ...]
    offsets: tuple[int, ...]
    total_bytes: int


def pack(value: Any, *, what: str) -> Packed:
    """Pickle ``value`` without copying its large buffers.

    Args:
        value: what is to cross.
        what: what to call it in an error.

    Raises:
        TransferError: if it cannot be pickled; the message names the cause.
    """
    return _lay_out(*pickle_outside(value, what=what))


def pickle_outside(value: Any, *, what: str) -> tuple[bytes, list[memoryview]]:
    """Return the in-band pickle and the large buffers, still the sender's own memory, that belong to it.

    Raises:
        TransferError: if it cannot be pickled.
    """
    outside: list[memoryview] = []

    def keep_inside(buffer: pickle.PickleBuffer) -> bool:
        try:
            view = buffer.raw()
        except BufferError:  # not contiguous: pickle copies it in-band
            return True
        if view.nbytes < _SMALLEST_BUFFER_BYTES:
            return True
        outside.append(view)
        return False

    try:
        return cloudpickle.dumps(value, protocol=5, buffer_callback=keep_inside), outside
    except MemoryError:
        raise
    except (
        Exception
    ) as error:  # picklers raise anything: PicklingError, TypeError, RecursionError, the object's own
        raise TransferError(
            f"{what} cannot cross to another process: {type(error).__name__}: {error}; "
            "pass plain data, arrays or frames, or a file's path"
        ) from error


def _lay_out(inside: bytes, outside: Sequence[memoryview]) -> Packed:
    # The header is written last but comes first, so its size is bounded before the offsets are known.
    start = _round_up(_HEAD.size + 64 + 48 * len(outside) + len(inside))
    offsets = [0] * len(outside)
    for index in sorted(range(len(outside)), key=lambda index: -outside[index].nbytes):
        offsets[index] = start
        start = _round_up(start + outside[index].nbytes)
    spans = [[offset, view.nbytes] for offset, view in zip(offsets, outside, strict=True)]
    head = json.dumps({"pickle": len(inside), "buffers": spans}).encode()
    return Packed(head, inside, tuple(outside), tuple(offsets), start)


def _round_up(count: int) -> int:
    return -(-count // _PAGE) * _PAGE


def create_segment(name: str, size_bytes: int) -> Descriptors:
    """Create an anonymous shared-memory file.

    Args:
        name: shown in /proc/PID/maps as ``/memfd:NAME``; for people only.
        size_bytes: its length; pages come into being when they are written.

    Returns:
        The owner of its descriptor, which is closed on exec.
    """
    segment = open_above_streams(os.memfd_create, name, os.MFD_CLOEXEC)
    os.ftruncate(segment.fileno(), size_bytes)
    return segment


def write_packed(packed: Packed, descriptor: int) -> None:
    """Write ``packed`` into a segment of at least ``packed.total_bytes``.

    Written with ``pwrite`` and not through a mapping: the writer's own page tables and resident set do not grow.
    """
    head = _HEAD.pack(len(packed.head)) + packed.head
    _write_all(descriptor, memoryview(head), 0)
    _write_all(descriptor, memoryview(packed.pickle), len(head))
    for view, offset in zip(packed.buffers, packed.offsets, strict=True):
        _write_all(descriptor, view, offset)


def _write_all(descriptor: int, view: memoryview, offset: int) -> None:
    done = 0
    while done < view.nbytes:
        done += os.pwrite(descriptor, view[done : done + _CHUNK_BYTES], offset + done)


def unpack(descriptor: int, *, give_back: bool) -> Any:
    """Rebuild the object that a segment holds; its large buffers lie on the segment itself, copy-on-write.

    Args:
        descriptor: the segment; stays the caller's to close, and may be closed at once.
        give_back: free each buffer's pages when the last object on it dies. For the only reader of a segment; for
            others, and after a fork, the pages go with the last of all mappings and descriptors.

    Raises:
        Exception: whatever unpickling the object raises.
    """
    (head_bytes,) = _HEAD.unpack(os.pread(descriptor, _HEAD.size, 0))
    head = json.loads(os.pread(descriptor, head_bytes, _HEAD.size))
    inside = _read_all(descriptor, head["pickle"], _HEAD.size + head_bytes)
    spans = head["buffers"]
    giver = _page_return(descriptor, spans, len(inside)) if give_back else None
    return pickle.loads(inside, buffers=_map_buffers(descriptor, spans, giver))


def _page_return(descriptor: int, spans: Sequence[Sequence[int]], pickle_bytes: int) -> PageReturn | None:
    """Return what gives pages back part by part, if the segment holds more than one part."""
    if not spans or (len(spans) == 1 and pickle_bytes < _SMALLEST_BUFFER_BYTES):
        return None  # a mapping saved: all pages go with the only one
    giver = PageReturn(descriptor)
    giver.give_back(0, min(offset for offset, _ in spans))  # the pickle has been read
    return giver


def _read_all(descriptor: int, count: int, offset: int) -> bytearray:
    inside = bytearray(count)
    view, done = memoryview(inside), 0
    while done < count:
        got = os.preadv(descriptor, [view[done : done + _CHUNK_BYTES]], offset + done)
        if got == 0:
            raise EOFError("the segment is shorter than its header says")
        done += got
    return inside


def _map_buffers(
    descriptor: int, spans: Sequence[Sequence[int]], giver: PageReturn | None
) -> list[memoryview]:
    # The largest lie first, so that those which share a mapping lie side by side: it must cover nobody else's pages,
    # for they are given back when it ends.
    largest = sorted(range(len(spans)), key=lambda index: spans[index][0])[:_MOST_MAPPINGS]
    own = {index: map_part(descriptor, *spans[index], giver=giver) for index in largest}
    rest = [span for index, span in enumerate(spans) if index not in own]
    shared = iter(_map_together(descriptor, rest, giver))
    return [own[index] if index in own else next(shared) for index in range(len(spans))]


def _map_together(
    descriptor: int, spans: Sequence[Sequence[int]], giver: PageReturn | None
) -> Iterable[memoryview]:
    if not spans:
        return []
    start = min(offset for offset, _ in spans)
    end = max(offset + length for offset, length in spans)
    whole = map_part(descriptor, start, end - start, giver=giver)
    return [whole[offset - start : offset - start + length] for offset, length in spans]
