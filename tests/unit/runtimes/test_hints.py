"""Hints: kept in order, merged, each given once."""

from __future__ import annotations

import asyncio

from roost.runtimes.hints import Hints


async def test_hints_wait_in_order_and_are_merged() -> None:
    hints = Hints()
    for replica_id in ("a", "b", "a"):
        hints.put(replica_id)
    assert [await hints.take(), await hints.take()] == ["a", "b"]


async def test_a_waiter_is_woken_also_after_others_gave_up() -> None:
    hints = Hints()
    impatient = asyncio.create_task(hints.take())
    patient = asyncio.create_task(hints.take())
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.wait([impatient])
    hints.put("a")
    async with asyncio.timeout(5):
        assert await patient == "a"
