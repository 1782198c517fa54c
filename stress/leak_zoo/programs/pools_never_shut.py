"""Leaks a worker thread an iteration: each makes an executor and forgets to shut it down."""

from concurrent.futures import ThreadPoolExecutor

TRUTH = {"leaks": True, "kind": "thread", "bytes": 0, "names": ["POOLS", "ThreadPoolExecutor", "Thread"]}
POOLS: list[ThreadPoolExecutor] = []


def iteration(number: int) -> None:
    """Compute in a pool of one."""
    pool = ThreadPoolExecutor(1)
    pool.submit(pow, number, 2).result()
    POOLS.append(pool)
