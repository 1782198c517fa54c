"""host: what the machine says.

Comes in: /proc, /sys/fs/cgroup and, elsewhere than on Linux, psutil. Goes out: the frozen records of
`memguard.host.readings`, and the fences and signals that other rooms ask for. It decides nothing and
is the only room that measures. Read `memguard.host.readings` first, then `memguard.host.machine`.
"""

from __future__ import annotations

from memguard.host.abilities import Abilities, Ability, probe
from memguard.host.aftermath import (
    machine_oom_kills,
    remove_abandoned,
    still_there,
    wait_all_gone,
)
from memguard.host.cpus import allowed_cpus, usable_cpus
from memguard.host.fence import Fence, FenceError, open_fence
from memguard.host.fence_sweep import find_stale_fences, sweep_stale_fences
from memguard.host.hugepages import collapse_anonymous_memory
from memguard.host.identity import identify, is_alive
from memguard.host.kill import kill_processes
from memguard.host.machine import read_machine, share_of
from memguard.host.prctl import become_subreaper, die_with_parent, raise_oom_score
from memguard.host.process import (
    OwnMemory,
    ProcessMemory,
    children_of,
    limit_data_segment,
    peak_resident_bytes_now,
    pending_signals,
    private_bytes_now,
    processes_with_environment,
    read_process_memory,
    resident_bytes_now,
    start_ticks,
    was_started_with,
)
from memguard.host.readings import MachineReading
from memguard.host.shared import SharedMemoryFinder, machine_shared_bytes
from memguard.host.shared_names import named_after, shared_memory_there
from memguard.host.signals import ReceivedSignal, SignalStream
from memguard.host.tree import TreeSampler
from memguard.host.umask import own_umask

__all__ = [
    "Abilities",
    "Ability",
    "Fence",
    "FenceError",
    "MachineReading",
    "OwnMemory",
    "ProcessMemory",
    "ReceivedSignal",
    "SharedMemoryFinder",
    "SignalStream",
    "TreeSampler",
    "allowed_cpus",
    "become_subreaper",
    "children_of",
    "collapse_anonymous_memory",
    "die_with_parent",
    "find_stale_fences",
    "identify",
    "is_alive",
    "kill_processes",
    "limit_data_segment",
    "machine_oom_kills",
    "machine_shared_bytes",
    "named_after",
    "open_fence",
    "own_umask",
    "peak_resident_bytes_now",
    "pending_signals",
    "private_bytes_now",
    "probe",
    "processes_with_environment",
    "raise_oom_score",
    "read_machine",
    "read_process_memory",
    "remove_abandoned",
    "resident_bytes_now",
    "share_of",
    "shared_memory_there",
    "start_ticks",
    "still_there",
    "sweep_stale_fences",
    "usable_cpus",
    "wait_all_gone",
    "was_started_with",
]
