"""How a job ended, decided from what was seen. Pure: facts in, outcome and evidence out.

The order of the questions is the point: what memguard did itself comes first, then what the kernel's counters prove,
then what the job said, and only then the bare exit status.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import StrEnum

from memguard.errors import MemguardError
from memguard.report import Evidence, Outcome
from memguard.units import format_bytes

__all__ = ["Delivery", "Ending", "StopReason", "Verdict", "delivery_of", "judge", "signal_name"]


class StopReason(StrEnum):
    """Why memguard ended a job."""

    BUDGET = "budget"
    TIMEOUT = "timeout"
    INTERRUPT = "interrupt"
    OWNER_GONE = "owner_gone"
    PRESSURE = "pressure"


class Delivery(StrEnum):
    """What the job handed over before it ended."""

    NOTHING = "nothing"
    VALUE = "value"
    EXCEPTION = "exception"
    MEMORY_ERROR = "memory_error"
    INTERRUPTED = "interrupted"


def delivery_of(error: BaseException) -> Delivery:
    """Return what a job or a block hands over that ends with an error.

    memguard's own errors tell of a job or a request inside it, with a report or figures of their own: they are no
    failed allocation of this one, though they are `MemoryError` too.
    """
    if isinstance(error, MemoryError) and not isinstance(error, MemguardError):
        return Delivery.MEMORY_ERROR
    return Delivery.INTERRUPTED if isinstance(error, KeyboardInterrupt) else Delivery.EXCEPTION


@dataclass(frozen=True, slots=True)
class Ending:
    """What was seen of a job's end.

    Attributes:
        exit_code: exit status of the first process, negative for a signal as `subprocess` has it; ``None`` if
            unknown.
        delivery: what it handed over.
        stop_reason: why memguard stopped it, or ``None`` if it did not.
        limit_bytes: its budget.
        peak_bytes: highest sampled use.
        fence_kind: what enforced the budget.
        fence_oom_kills: processes in its fence that the kernel's out-of-memory killer killed.
        fence_limit_hits: charges that ran into the fence's limit.
        fence_high_water_bytes: the kernel's high-water mark of the fence.
        fence_most_cache_bytes: the most file cache that was seen charged to the fence.
        machine_oom_kills: out-of-memory kills in the memory cgroup around it while it ran, else on the whole machine.
        owes_value: whether it had a value to hand over: a function has, a command has not.
    """

    exit_code: int | None
    delivery: Delivery
    stop_reason: StopReason | None
    limit_bytes: int
    peak_bytes: int
    fence_kind: str
    fence_oom_kills: int = 0
    fence_limit_hits: int = 0
    fence_high_water_bytes: int | None = None
    fence_most_cache_bytes: int | None = None
    machine_oom_kills: int = 0
    owes_value: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome and the facts it rests on."""

    outcome: Outcome
    evidence: tuple[Evidence, ...]


def judge(ending: Ending) -> Verdict:
    """Decide how a job ended."""
    evidence = tuple(_collect(ending))
    return Verdict(_outcome(ending), evidence)


def _outcome(ending: Ending) -> Outcome:
    if ending.fence_oom_kills:
        return Outcome.BUDGET_KILL if _fence_was_full(ending) else Outcome.KERNEL_OOM
    if ending.stop_reason is not None:
        return _STOPPED[ending.stop_reason]
    if _machine_was_short(ending):
        return Outcome.KERNEL_OOM
    if ending.delivery is not Delivery.NOTHING:
        return _DELIVERED[ending.delivery]
    return _by_exit_code(ending)


_STOPPED = {
    StopReason.BUDGET: Outcome.BUDGET_KILL,
    StopReason.TIMEOUT: Outcome.TIMEOUT,
    StopReason.INTERRUPT: Outcome.INTERRUPTED,
    StopReason.OWNER_GONE: Outcome.INTERRUPTED,
    StopReason.PRESSURE: Outcome.BUDGET_KILL,
}
_DELIVERED = {
    Delivery.VALUE: Outcome.COMPLETED,
    Delivery.EXCEPTION: Outcome.RAISED,
    Delivery.MEMORY_ERROR: Outcome.MEMORY_ERROR,
    Delivery.INTERRUPTED: Outcome.INTERRUPTED,
}


def _fence_was_full(ending: Ending) -> bool:
    """Whether the fence's own limit, and not one above it, made the kernel kill."""
    if ending.fence_limit_hits == 0:
        return False
    # The high-water mark stops short of the limit by the per-CPU charge batches of the kernel (64 pages each).
    mark = ending.fence_high_water_bytes
    return mark is None or mark >= ending.limit_bytes - max(ending.limit_bytes // 50, 1 << 20)


def _machine_was_short(ending: Ending) -> bool:
    """Whether a kill by the kernel is the likeliest cause, where no fence of its own counted it."""
    counted = ending.fence_kind.startswith("cgroup")
    return ending.exit_code == -signal.SIGKILL and bool(ending.machine_oom_kills) and not counted


def _by_exit_code(ending: Ending) -> Outcome:
    exit_code = ending.exit_code
    if exit_code is None:
        return Outcome.LOST
    if exit_code < 0:
        return Outcome.INTERRUPTED if exit_code == -signal.SIGINT else Outcome.SIGNAL
    return Outcome.COMPLETED if exit_code == 0 and not ending.owes_value else Outcome.RAISED


def signal_name(number: int) -> str:
    """Return ``"SIGSEGV"`` for 11, ``"signal 40"`` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _collect(ending: Ending) -> list[Evidence]:
    found = [Evidence("exit status", _tell_exit(ending.exit_code))]
    if ending.delivery is not Delivery.NOTHING:
        found.append(Evidence("job", f"handed over: {ending.delivery.value.replace('_', ' ')}"))
    elif ending.owes_value and ending.exit_code is not None and ending.exit_code >= 0:
        found.append(Evidence("job", "ended its process before it returned"))
    if ending.stop_reason is not None:
        found.append(Evidence("memguard", _tell_stop(ending, ending.stop_reason)))
    if ending.fence_oom_kills or ending.fence_limit_hits:
        found.append(Evidence(ending.fence_kind, _tell_fence(ending)))
    if ending.machine_oom_kills and not ending.fence_oom_kills and ending.exit_code == -signal.SIGKILL:
        found.append(
            Evidence(
                "kernel",
                f"oom_kill of what is around the job rose by {ending.machine_oom_kills} while it ran",
            )
        )
    return found


def _tell_stop(ending: Ending, reason: StopReason) -> str:
    # A kill by the kernel is what the guard saw then, whichever limit it was for.
    if reason is StopReason.BUDGET and ending.fence_oom_kills:
        return "ended what the kernel's kill had left of the job"
    return _STOP_TEXT[reason]


_STOP_TEXT = {
    StopReason.BUDGET: "stopped the job because its use passed its budget",
    StopReason.TIMEOUT: "stopped the job because its time was up",
    StopReason.INTERRUPT: "stopped the job because it was asked to",
    StopReason.OWNER_GONE: "stopped the job because the process that asked for it is gone",
    StopReason.PRESSURE: "ended the job because the machine's memory ran short",
}


def _tell_exit(exit_code: int | None) -> str:
    if exit_code is None:
        return "unknown: the supervisor vanished"
    return f"killed by {signal_name(-exit_code)}" if exit_code < 0 else f"exited with {exit_code}"


def _tell_fence(ending: Ending) -> str:
    mark = ending.fence_high_water_bytes
    shown = f", high-water mark {format_bytes(mark)}" if mark is not None else ""
    return (
        f"processes killed by the kernel: {ending.fence_oom_kills}, "
        f"limit {format_bytes(ending.limit_bytes)}, times it was hit: {ending.fence_limit_hits}{shown}"
    )
