"""The work queue: an id waits once, is worked on by one worker at a time, and comes back when it is added meanwhile."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from roost.control.workqueue import WorkQueue


async def soon(queue: WorkQueue) -> str:
    return await asyncio.wait_for(queue.get(), 5)


async def nothing(queue: WorkQueue) -> bool:
    task = asyncio.create_task(queue.get())
    for _ in range(5):
        await asyncio.sleep(0)
    waiting = not task.done()
    task.cancel()
    return waiting


async def test_added_twice_is_worked_on_once() -> None:
    queue = WorkQueue()
    queue.add("a")
    queue.add("a")
    assert await soon(queue) == "a"
    queue.done("a")
    assert await nothing(queue)


async def test_added_while_worked_on_comes_again_only_afterwards() -> None:
    queue = WorkQueue()
    queue.add("a")
    await soon(queue)
    queue.add("a")
    assert await nothing(queue)
    queue.done("a")
    assert await soon(queue) == "a"


async def test_the_earlier_of_two_delays_counts_and_now_beats_both() -> None:
    queue = WorkQueue()
    queue.add_after("a", timedelta(hours=1))
    queue.add_after("a", timedelta(milliseconds=1))
    assert await soon(queue) == "a"
    queue.done("a")
    queue.add_after("a", timedelta(hours=1))
    queue.add("a")
    assert await soon(queue) == "a"
    queue.close()


async def test_no_delay_is_now() -> None:
    queue = WorkQueue()
    queue.add_after("a", timedelta(0))
    assert await soon(queue) == "a"
