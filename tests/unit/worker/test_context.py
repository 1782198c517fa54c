"""What a job tells is always something that can be sent and written, whatever it was given."""

from __future__ import annotations

import enum
import itertools
import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.worker.context import JobContext, scalar_of, text_of
from memguard.worker.protocol import channel_pair
from memguard.worker.recorder import JobRecorder
from tests.support.forks import FORKS_BESIDE_THREADS, held_by_another, in_child


class Unshowable:
    def __str__(self) -> str:
        raise RuntimeError("not now")


class Hostile:
    """Raises whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("outside of its context")


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (0.5, 0.5),
        ("text", "text"),
        (np.int64(3), 3),
        (np.uint64(2**64 - 1), str(2**64 - 1)),
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("text"), "text"),
        (np.array(7), 7),
        (np.array([7]), 7),
        (np.arange(3), "[0 1 2]"),
        (np.datetime64("2013-01-01"), "2013-01-01"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (np.float64("nan"), "nan"),
        (2**70, str(2**70)),
        (10**5000, "(int that cannot be shown: ValueError)"),
        (Colour.RED, 1),
        (Decimal("1.5"), "1.5"),
        (Path("/x"), "/x"),
        ((1, 2), "(1, 2)"),
        ("x" * 5000, "x" * 4000),
        (Unshowable(), "(Unshowable that cannot be shown: RuntimeError)"),
        (Hostile(), "(Hostile that cannot be shown: RuntimeError)"),
    ],
    ids=itertools.count(),
)
def test_a_note_is_what_json_has_a_word_for(value: Any, expected: Any) -> None:
    """Numbers stay numbers, of NumPy too; what is none, or none that JSON knows, is told as text."""
    told = scalar_of(value)
    assert told == expected
    assert type(told) in (bool, int, float, str, type(None))
    json.dumps(told, allow_nan=False)


@given(st.floats() | st.integers() | st.text() | st.binary() | st.complex_numbers() | st.lists(st.floats()))
def test_anything_can_be_noted(value: Any) -> None:
    """No value makes a note fail, and each gives valid JSON."""
    json.dumps(scalar_of(value), allow_nan=False)
    assert len(text_of(value, 10)) <= 10


def test_a_job_may_tell_anything() -> None:
    """Names, texts and fractions of any type are sent as what can be read; a fraction that is none is left out."""
    ours, theirs = channel_pair()
    with ours, theirs:
        job = JobContext("1", "fit", 100, ours)
        job.phase(7, detail=Path("/x"))  # type: ignore[arg-type]
        job.warn(ValueError("odd"))  # type: ignore[arg-type]
        job.note(3, np.arange(3))  # type: ignore[arg-type]
        job.note("loss", math.nan)
        job.progress(np.float32(0.5))
        job.progress(math.nan)
        job.progress("half")  # type: ignore[arg-type]
        job.warn("\U0001d11e\ud800" * 4000)
        ours.close()
        told = []
        while (received := theirs.receive()) is not None:
            told.append(dict(received[0]))
    assert told[:5] == [
        {"kind": "phase", "name": "7", "detail": "/x"},
        {"kind": "warning", "text": "odd"},
        {"kind": "note", "key": "3", "value": "[0 1 2]"},
        {"kind": "note", "key": "loss", "value": "nan"},
        {"kind": "progress", "fraction": 0.5},
    ]
    assert [each["kind"] for each in told[5:]] == ["warning"]


@FORKS_BESIDE_THREADS
def test_a_forked_child_of_a_job_counts_nothing_and_waits_for_nobody() -> None:
    """A batch in a child is not the job's, whatever another thread of the job was at when it forked."""
    ours, theirs = channel_pair()
    with ours, theirs:
        job = JobContext("1", "fit", 100, ours)

        def child() -> bool:
            job.batch(5)
            return True

        with held_by_another(job._lock):
            assert in_child(child)
        job.batch(7)
        received = theirs.receive()
    assert received is not None
    assert received[0] == {"kind": "batches", "figures": [1, 7, 7, 7]}


def test_what_a_block_tells_is_kept_as_json_too() -> None:
    """A block in the caller's process hands its values over as they are; the report still can be written."""
    recorder = JobRecorder(100, 0.8)
    recorder.take({"kind": "note", "key": 1, "value": np.int64(3)}, 0.0)
    recorder.take({"kind": "note", "key": "loss", "value": math.nan}, 0.0)
    recorder.take({"kind": "phase", "name": 7, "detail": None}, 0.0)
    recorder.take({"kind": "warning", "text": ValueError("odd")}, 0.0)
    assert recorder.notes == {"1": 3, "loss": "nan"}
    assert (recorder.progress.phase, recorder.warnings[0].text) == ("7", "odd")
    json.dumps(recorder.notes, allow_nan=False)
