"""Waits that end with the server."""

from __future__ import annotations

import asyncio

import pytest

from roost.domain.errors import NotReady
from roost.wiring.pauses import Pauses


async def test_a_pause_passes() -> None:
    await Pauses().wait(0.001)


async def test_the_end_cuts_pauses_short_and_allows_no_more() -> None:
    pauses = Pauses()
    waiting = asyncio.create_task(pauses.wait(1000))
    await asyncio.sleep(0)
    pauses.end()
    with pytest.raises(NotReady, match="shutting down"):
        await asyncio.wait_for(waiting, 10)
    with pytest.raises(NotReady):
        await pauses.wait(1000)
