"""Leaks tasks that wait for an answer which never comes."""

import asyncio

TRUTH = {"leaks": True, "kind": "python", "bytes": 2_500, "names": ["WAITING", "Task", "Future"]}
LOOP = asyncio.new_event_loop()
WAITING: set["asyncio.Task[None]"] = set()


async def request(number: int) -> None:
    """Wait for ever, with a body in hand."""
    body = bytes([number % 251]) * 1_000
    await LOOP.create_future()
    del body


def iteration(number: int) -> None:
    """Start a request and go on."""
    WAITING.add(LOOP.create_task(request(number)))
    LOOP.run_until_complete(asyncio.sleep(0))
