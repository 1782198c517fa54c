"""The tree of errors: each one is what it claims to be, and crosses a process boundary whole."""

from __future__ import annotations

import copy
import pickle

import pytest

from memguard import errors
from memguard.errors import (
    BatchError,
    CapacityExceeded,
    CleanupFailed,
    ConfigError,
    DataError,
    DurationSyntaxError,
    EpisodeConflict,
    EpisodeInvalid,
    EpisodeMissing,
    EpisodeStoreBusy,
    EpisodeStoreError,
    JobCrashed,
    JobError,
    JobInterrupted,
    JobLost,
    JobTimeout,
    LedgerError,
    MemguardError,
    MemoryLimitExceeded,
    MissingExtra,
    OutputError,
    ReservationTimeout,
    SizeSyntaxError,
    StateMismatch,
    TransferError,
    WorkerStartError,
)

# One example of each public error, the builtin a caller would catch it as, and the fields it carries.
EXAMPLES: list[tuple[MemguardError, type[BaseException], dict[str, object]]] = [
    (MemguardError("it broke"), Exception, {}),
    (SizeSyntaxError("no size", text="4 bananas"), ValueError, {"text": "4 bananas"}),
    (DurationSyntaxError("no duration", text="soon"), ValueError, {"text": "soon"}),
    (ConfigError("bad", setting="memory", origin="flag --memory"), ValueError, {"setting": "memory"}),
    (DataError("is empty", subject="x.csv", remedy="give rows"), ValueError, {"remedy": "give rows"}),
    (OutputError("disk full", path="out.parquet"), OSError, {"path": "out.parquet"}),
    (
        CapacityExceeded("too large", requested_bytes=9, capacity_bytes=4, limited_by="physical"),
        MemoryError,
        {"requested_bytes": 9, "capacity_bytes": 4, "limited_by": "physical"},
    ),
    (
        ReservationTimeout("not in time", requested_bytes=9, free_bytes=4, holders=("train: 5 GiB",)),
        TimeoutError,
        {"requested_bytes": 9, "free_bytes": 4, "holders": ("train: 5 GiB",)},
    ),
    (EpisodeInvalid("no vector"), ValueError, {}),
    (
        StateMismatch("other", missing=("a",), unexpected=()),
        ValueError,
        {"missing": ("a",), "unexpected": ()},
    ),
    (EpisodeConflict("is there", episode_id="a"), ValueError, {"id": "a"}),
    (EpisodeMissing("is not there", episode_id="a"), KeyError, {"id": "a"}),
    (EpisodeStoreError("full", path="store"), OSError, {"path": "store"}),
    (EpisodeStoreBusy("stopped", path="store"), TimeoutError, {"path": "store"}),
    (LedgerError("full", path="ledger"), OSError, {"path": "ledger"}),
    (WorkerStartError("no fork"), RuntimeError, {}),
    (TransferError("cannot pickle a lock"), TypeError, {}),
    (MissingExtra("needs a part", extra="autofeat-stock"), ImportError, {"extra": "autofeat-stock"}),
    (BatchError("rows 5:9 failed", start=5, stop=9), RuntimeError, {"start": 5, "stop": 9}),
    (CleanupFailed("2 failed", failures=("a", "b")), RuntimeError, {"failures": ("a", "b")}),
    (JobError("ended badly"), Exception, {"report": None}),
    (MemoryLimitExceeded("over its budget"), MemoryError, {"report": None}),
    (JobTimeout("out of time"), TimeoutError, {"report": None}),
    (JobCrashed("segfault"), RuntimeError, {"report": None}),
    (JobLost("vanished"), RuntimeError, {"report": None}),
    (JobInterrupted("interrupted"), RuntimeError, {"report": None}),
]
NAMES = [type(error).__name__ for error, _, _ in EXAMPLES]


def test_every_public_error_is_listed_once_and_tested_here() -> None:
    """The examples below cover exactly the public errors, and __all__ is sorted and complete."""
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, MemguardError)
    }
    assert sorted(errors.__all__) == errors.__all__
    assert set(errors.__all__) == defined == set(NAMES)
    assert len(NAMES) == len(set(NAMES))


@pytest.mark.parametrize(("error", "builtin", "fields"), EXAMPLES, ids=NAMES)
def test_an_error_is_the_builtin_that_a_caller_would_catch(
    error: MemguardError, builtin: type[BaseException], fields: dict[str, object]
) -> None:
    """Each error is a MemguardError and the builtin, carries its fields and reads as its message."""
    assert isinstance(error, MemguardError)
    assert isinstance(error, builtin)
    assert str(error) == error.message
    assert {name: getattr(error, name) for name in fields} == fields


@pytest.mark.parametrize("error", [error for error, _, _ in EXAMPLES], ids=NAMES)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling(error: MemguardError, protocol: int) -> None:
    """Type, message, arguments, fields and notes are the same on the other side of a pipe."""
    error = copy.copy(error)
    error.add_note("seen in the worker")
    received = pickle.loads(pickle.dumps(error, protocol))
    assert type(received) is type(error)
    assert str(received) == str(error)
    assert received.args == error.args
    assert vars(received) == vars(error)
    assert received.__notes__ == ["seen in the worker"]


@pytest.mark.parametrize("error", [error for error, _, _ in EXAMPLES], ids=NAMES)
def test_a_copy_is_an_error_of_its_own(error: MemguardError) -> None:
    """Copies say the same, and adding a note to one leaves the other alone."""
    for duplicate in (copy.copy(error), copy.deepcopy(error)):
        duplicate.add_note("only here")
        assert (type(duplicate), str(duplicate)) == (type(error), str(error))
        assert not hasattr(error, "__notes__")


def test_an_error_with_a_cause_of_its_own_field_names_pickles_the_report() -> None:
    """Whatever a job error carries as its report comes along."""
    error = pickle.loads(pickle.dumps(MemoryLimitExceeded("over", report=("stands for", "a report"))))  # type: ignore[arg-type]
    assert error.report == ("stands for", "a report")


def test_a_data_error_says_what_and_what_to_do() -> None:
    """The message of a data error is one line: subject, problem, remedy."""
    error = DataError("has no rows", subject="flights.csv", remedy="write a header and at least two rows")
    assert str(error) == "flights.csv: has no rows; write a header and at least two rows"


def test_an_output_error_is_no_errno_tuple() -> None:
    """OSError shows and pickles two arguments in its own way; a message alone stays a message."""
    error = OutputError("No space left on device: out.csv", path="out.csv")
    assert str(error) == "No space left on device: out.csv"
    assert error.errno is None
