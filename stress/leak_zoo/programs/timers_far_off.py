"""Leaks timers of an event loop that are due in an hour, each with a kilobyte."""

import asyncio

TRUTH = {"leaks": True, "kind": "python", "bytes": 1_300, "names": ["_scheduled", "LOOP", "TimerHandle"]}

LOOP = asyncio.new_event_loop()


async def _work(number: int) -> None:
    LOOP.call_later(3600, len, bytes([number % 251]) * 1000)


def iteration(number: int) -> None:
    """Do something, and look after it in an hour."""
    LOOP.run_until_complete(_work(number))


def teardown() -> None:
    """Close the loop."""
    LOOP.close()
