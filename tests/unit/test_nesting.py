"""Blocks inside blocks: whose is around a piece of code, in tasks, threads and contexts that know nothing of it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import pytest

from memguard.aside import complete_aside
from memguard.nesting import Nesting, Surroundings

T = TypeVar("T")


@dataclass(eq=False)
class Block:
    """Something that can be entered and left."""

    enclosing: Block | None = None
    is_closed: bool = False


@dataclass(eq=False)
class Room:
    """Something that a block holds."""

    is_released: bool = False


@pytest.fixture
def around() -> Surroundings[Room]:
    return Surroundings("test")


def in_new_thread(work: Callable[[], T]) -> T:
    """Do it in a thread that is started now."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(timeout=30)


class TestNesting:
    """Which block of those in use a thread belongs to."""

    def test_a_closed_block_encloses_nobody(self) -> None:
        """A thread is told the innermost one that is open, whichever around it have ended meanwhile."""
        nesting: Nesting[Block] = Nesting("test")
        outer = Block()
        middle = Block(outer)
        inner = Block(middle)
        for each in (outer, middle, inner):
            nesting.enter(each)
        assert in_new_thread(nesting.current) is inner
        middle.is_closed = True
        assert in_new_thread(nesting.current) is inner
        inner.is_closed = True
        assert in_new_thread(nesting.current) is outer
        outer.is_closed = True
        assert in_new_thread(nesting.current) is nesting.current() is None

    def test_any_order_of_leaving(self) -> None:
        """Who leaves the outer block first is still in the inner one, also where independent ones are in use."""
        nesting: Nesting[Block] = Nesting("test")
        in_new_thread(lambda: nesting.enter(Block()))
        outer, inner = Block(), Block()
        tokens = [nesting.enter(each) for each in (outer, inner)]
        nesting.leave(outer, tokens[0])
        outer.is_closed = True
        assert nesting.current() is inner
        nesting.leave(inner, tokens[1])
        inner.is_closed = True
        assert nesting.current() is not inner

    def test_independent_ones_stay_so_when_others_close(self) -> None:
        """Two that do not enclose each other tell nothing, whatever has closed inside of them."""
        nesting: Nesting[Block] = Nesting("test")
        one, other = Block(), Block()
        for each in (one, Block(one, is_closed=True), other):
            nesting.enter(each)
        assert in_new_thread(nesting.current) is None


class TestSurroundings:
    """What the blocks around a piece of code hold."""

    def test_what_was_given_back_is_not_around(self, around: Surroundings[Room]) -> None:
        """A context that outlives its block, as that of a task that was started inside, is in it no longer."""
        room, inner = Room(), Room()
        around.enter(room)
        around.enter(inner)
        copied = contextvars.copy_context()
        assert copied.run(around.current) == (room, inner)
        inner.is_released = True
        assert copied.run(around.current) == (room,)

    def test_any_order_of_leaving(self, around: Surroundings[Room]) -> None:
        """Who leaves the outer block first is still in the inner one."""
        one, two = Room(), Room()
        around.enter(one)
        around.enter(two)
        around.leave(one)
        assert around.current() == (two,)
        assert in_new_thread(around.current) == (two,)
        around.leave(two)
        assert around.current() == in_new_thread(around.current) == ()

    def test_left_in_another_context(self, around: Surroundings[Room]) -> None:
        """A fixture enters here and leaves elsewhere; the room it gave back is not around here."""
        room = Room()
        around.enter(room)
        contextvars.copy_context().run(around.leave, room)
        room.is_released = True
        assert around.current() == ()

    def test_a_thread_started_inside_is_inside(self, around: Surroundings[Room]) -> None:
        """One that the main thread's block may wait for counts as inside, an older one does not."""
        with ThreadPoolExecutor(1) as old:
            old.submit(int).result(timeout=30)
            outer, inner = Room(), Room()
            around.enter(outer)
            with ThreadPoolExecutor(1) as between:
                between.submit(int).result(timeout=30)
                around.enter(inner)
                assert old.submit(around.current).result(timeout=30) == ()
                assert between.submit(around.current).result(timeout=30) == (outer,)
                assert in_new_thread(around.current) == (outer, inner)
                around.leave(inner)
            assert in_new_thread(around.current) == (outer,)

    def test_threads_that_enter_blocks_are_strangers(self, around: Surroundings[Room]) -> None:
        """Of two workers, each with a block of its own, the second is not in the first one's, though started later."""
        entered, leave = threading.Event(), threading.Event()

        def work() -> None:
            around.enter(Room())
            entered.set()
            leave.wait(30)

        with ThreadPoolExecutor(1) as first:
            first.submit(work)
            assert entered.wait(30)
            assert in_new_thread(around.current) == around.current() == ()
            leave.set()

    def test_tasks_are_told_apart_by_their_contexts(self, around: Surroundings[Room]) -> None:
        """Work of one task is not in the block of another one, in whichever thread either is done."""
        room = Room()

        async def block(entered: asyncio.Event, leave: asyncio.Event) -> None:
            around.enter(room)
            assert await complete_aside(around.current, "inside") == (room,)
            entered.set()
            await leave.wait()
            around.leave(room)

        async def main() -> None:
            entered, leave = asyncio.Event(), asyncio.Event()
            task = asyncio.create_task(block(entered, leave))
            await entered.wait()
            assert around.current() == await complete_aside(around.current, "x") == ()
            assert await asyncio.to_thread(around.current) == ()
            leave.set()
            await task

        asyncio.run(main())

    def test_work_of_a_loop_is_where_its_loop_is(self, around: Surroundings[Room]) -> None:
        """A thread that works for an older thread's loop is not inside because it was started late."""

        async def ask() -> tuple[Room, ...]:
            return await complete_aside(around.current, "x")

        with ThreadPoolExecutor(1) as old:
            old.submit(int).result(timeout=30)
            room = Room()
            around.enter(room)
            assert old.submit(lambda: asyncio.run(ask())).result(timeout=30) == ()
            assert in_new_thread(lambda: asyncio.run(ask())) == (room,)
