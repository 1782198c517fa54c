"""Leaks copies of the context, each with another value of a variable."""

import contextvars

TRUTH = {"leaks": True, "kind": "python", "bytes": 2_400, "names": ["HISTORY", "Context", "bytes"]}

REQUEST: contextvars.ContextVar[bytes] = contextvars.ContextVar("request")
HISTORY: list[contextvars.Context] = []


def iteration(number: int) -> None:
    """Serve a request in a context of its own."""
    context = contextvars.copy_context()
    context.run(REQUEST.set, bytes([number % 251]) * 2000)
    HISTORY.append(context)
