"""Leaks nothing: an event loop an iteration, with twenty tasks that end."""

import asyncio

TRUTH = {"leaks": False}


async def _one(number: int) -> int:
    await asyncio.sleep(0)
    return number


async def _all() -> None:
    await asyncio.gather(*(_one(number) for number in range(20)))


def iteration(number: int) -> None:
    """Run them."""
    asyncio.run(_all())
