"""Leaks nothing: up to eight connections, taken and given back at random, closed now and then."""

import random
import sqlite3

TRUTH = {"leaks": False}

POOL: list[sqlite3.Connection] = []
NUMBERS = random.Random(3)


def iteration(number: int) -> None:
    """Use some, and give back what the pool has room for."""
    used = [POOL.pop() if POOL else sqlite3.connect(":memory:") for _ in range(NUMBERS.randint(1, 8))]
    for each in used:
        each.execute("create table if not exists t (a)")
        if len(POOL) < 8 and NUMBERS.random() < 0.8:
            POOL.append(each)
        else:
            each.close()


def teardown() -> None:
    """Close all."""
    for each in POOL:
        each.close()
