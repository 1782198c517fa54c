"""Arrays, frames and plain objects of random shapes and types through a job and back, compared by their digests.

Invariant: the job sees what the caller sent and the caller gets what the job made, type and order of memory included;
afterwards the caller holds no more descriptors, mappings and memory than before, and the pen no shared memory.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import hashlib
import math
import pickle
import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _common
import numpy as np
import pandas as pd

from memguard import MemoryManager
from memguard.host import read_process_memory
from memguard.units import MIB, format_bytes

REQUIREMENTS = ("R2.3", "R4.3", "T7.2")

_MOST_GROWTH_BYTES = 5 * MIB
_WARM_UP = 20  # pandas and the allocator fill caches with the first values
_TYPES = ("?", "i1", "<u2", "<i4", ">i8", "<f2", "<f4", "<f8", "<c16", "S7", "<U3", "<M8[ns]", "<m8[s]")
_RECORD = np.dtype([("key", "<i8"), ("point", "<f4", (2, 3)), ("name", "S5")])


def draw_array(chance: random.Random, largest_bytes: int) -> np.ndarray[Any, Any]:
    """Draw an array: any number of dimensions up to four, any order, sometimes a view with gaps, sometimes empty."""
    dtype = _RECORD if chance.random() < 0.1 else np.dtype(chance.choice(_TYPES))
    count = int(largest_bytes / dtype.itemsize * chance.random() ** 4)
    shape = draw_shape(chance, count)
    raw = np.frombuffer(chance.randbytes(math.prod(shape) * dtype.itemsize), dtype=dtype)
    array = make_valid(raw.reshape(shape))
    arrange = chance.choice(_ARRANGEMENTS)
    return arrange(array)


def draw_shape(chance: random.Random, count: int) -> tuple[int, ...]:
    """Draw a shape of about ``count`` elements."""
    dimensions = chance.randrange(5)
    if dimensions == 0:
        return ()
    sides = [chance.randint(1, 6) for _ in range(dimensions - 1)]
    return (*sides, count // math.prod(sides))


def make_valid(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return an array that owns its data and whose texts and truth values are ones that numpy could have made."""
    if array.dtype.kind == "U":
        return np.full(array.shape, "añ☃", dtype=array.dtype)
    if array.dtype.kind == "b":
        return np.asarray(array.view("u1") % 2 == 1)
    return array.copy()


_ARRANGEMENTS: tuple[Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]], ...] = (
    np.ascontiguousarray,
    np.asfortranarray,
    lambda array: array[..., ::2] if array.ndim else array,
    lambda array: array.T,
    lambda array: array[::-1] if array.ndim else array,
)


def draw_frame(chance: random.Random, largest_bytes: int) -> Any:
    """Draw a data frame of mixed columns with an index of its own."""
    rows = int(largest_bytes / 40 * chance.random() ** 3) + 1
    numbers = np.random.default_rng(chance.randrange(1 << 30))
    columns = {
        "float": numbers.normal(size=rows),
        "gaps": np.where(numbers.random(rows) < 0.2, np.nan, 1.0),
        "integer": numbers.integers(0, 1 << 40, rows),
        "category": pd.Categorical(np.array(["a", "b", "c"])[numbers.integers(0, 3, rows)]),
        "time": pd.Timestamp("2013-01-01") + pd.to_timedelta(numbers.integers(0, 1 << 20, rows), unit="s"),
        "text": pd.Series(["x", "日本", None] * (rows // 3 + 1))[:rows].to_numpy(),
    }
    return pd.DataFrame(columns, index=pd.Index(numbers.permutation(rows), name="row"))


def draw_plain(chance: random.Random, largest_bytes: int) -> Any:
    """Draw plain objects, some large, some shared between places."""
    text = chance.randbytes(int(largest_bytes * chance.random() ** 6))
    return {
        "bytes": text,
        "again": [text, bytearray(text[:100_000])],
        "none": None,
        "deep": ((((1, 2.5),),),),
    }


def draw_many(chance: random.Random, largest_bytes: int) -> Any:
    """Draw a list of more arrays than a process wants mappings for."""
    each = min(largest_bytes // 200, 100_000)
    return [
        np.frombuffer(chance.randbytes(chance.randint(1, each)), "u1") for _ in range(chance.randint(65, 200))
    ]


_KINDS: tuple[Callable[[random.Random, int], Any], ...] = (
    draw_array,
    draw_array,
    draw_frame,
    draw_plain,
    draw_many,
)


def digest(value: Any) -> str:
    """Digest a value: type, shape, order and content."""
    if isinstance(value, np.ndarray):
        # Pickle itself brings a big-endian array with gaps into the machine's byte order.
        value = value.astype(value.dtype.newbyteorder("="), order="K", copy=False)
        order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
        return _sha256(f"{value.dtype.descr}{value.shape}{order}".encode(), value.tobytes())
    if isinstance(value, pd.DataFrame):
        rows = pd.util.hash_pandas_object(value, index=True).to_numpy()
        return _sha256(repr(value.dtypes).encode(), repr(value.index.dtype).encode(), rows.tobytes())
    if isinstance(value, list):
        return _sha256(*(digest(each).encode() for each in value))
    return _sha256(pickle.dumps(value, protocol=4))


def _sha256(*parts: bytes) -> str:
    return hashlib.sha256(b"|".join(parts)).hexdigest()


def echo(value: Any, expected: str) -> tuple[Any, bool]:
    """Be the job: check what arrived, send a copy back, and overwrite what arrived, which must change nobody else's."""
    arrived = digest(value) == expected
    returned = value.copy("K") if isinstance(value, np.ndarray) else pickle.loads(pickle.dumps(value))
    if isinstance(value, np.ndarray):
        value[...] = np.zeros((), dtype=value.dtype)
    return returned, arrived


def transfer(parsed: argparse.Namespace, checks: _common.Checks) -> None:
    """Send values there and back."""
    chance, kinds, total_bytes = random.Random(parsed.seed), Counter[str](), 0
    with MemoryManager("70%", preload=("numpy", "pandas")) as manager:
        for number in range(_WARM_UP):
            exchange(
                manager, _KINDS[number % len(_KINDS)](chance, parsed.largest), f"warm-up {number}", checks
            )
        before = state()
        for number in range(parsed.count):
            draw = chance.choice(_KINDS)
            total_bytes += exchange(
                manager, draw(chance, parsed.largest), f"{draw.__name__} {number}", checks
            )
            kinds[draw.__name__] += 1
        after = state()
    print(f"{format_bytes(total_bytes)} there and back: {dict(kinds)}")
    print(
        "      before  after\n"
        + "\n".join(f"{name:<12} {before[name]:>10} {after[name]:>10}" for name in before)
    )
    for name in ("descriptors", "mapped segments"):
        checks.check(after[name] <= before[name], f"{name} rose from {before[name]} to {after[name]}")
    growth = after["private bytes"] - before["private bytes"]
    checks.check(growth < _MOST_GROWTH_BYTES, f"the caller grew by {format_bytes(growth)}")


def exchange(manager: MemoryManager, value: Any, what: str, checks: _common.Checks) -> int:
    """Send one value through a job; returns its size when pickled."""
    sent = digest(value)
    returned, arrived = manager.run(echo, value, sent, memory="700MiB").value
    checks.check(arrived, f"{what} arrived as something else in the job")
    checks.check(digest(returned) == sent, f"{what} came back as something else")
    checks.check(digest(value) == sent, f"{what}: the job changed the caller's own value")
    checks.check(type(returned) is type(value), f"{what} came back as {type(returned).__name__}")
    return len(pickle.dumps(value))


def state() -> dict[str, int]:
    """Return what the caller holds, without what only the allocator holds: this program makes large values itself."""
    gc.collect()  # pandas leaves cycles, which hold frames
    with contextlib.suppress(AttributeError):  # a C library that is not glibc
        ctypes.CDLL(None).malloc_trim(0)
    maps = Path("/proc/self/maps").read_text()
    return {
        "descriptors": _common.descriptor_count(),
        "mapped segments": maps.count("/memfd:memguard"),
        "private bytes": read_process_memory().private_bytes,
    }


def main() -> int:
    """Run the transfers."""
    parser = _common.options(__doc__, count=150)
    parser.add_argument(
        "--largest", type=int, default=32 * MIB, help="bytes of the largest value (default: 32 MiB)"
    )
    return _common.run_in_pen(transfer, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
