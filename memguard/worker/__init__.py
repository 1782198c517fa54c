"""From a reservation to a guarded child process and its result.

Comes in: a function with arguments, or a command, and a budget. Goes out: a value or an exit status, and a report of
what was used. This room does not decide who may start (`memguard.allocator`) nor what memory the machine has
(`memguard.host`). Read ``keeper.py`` first: it holds one job from fork to verified end; ``command.py`` does the same
for a wrapped command.
"""

from memguard.worker.context import JobContext, current_job

__all__ = ["JobContext", "current_job"]
