"""Blocking work in a thread, waited for even when its caller is cancelled.

Called by the sources and the cache: a folder is only let go of when nobody writes to it any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Event
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[Event], T]) -> T:
    """The result of ``work(stop)``, run in a thread.

    When the caller is cancelled ``stop`` is set, and the cancellation goes on once ``work`` has returned: long work
    looks at ``stop`` often.
    """
    stop = Event()
    task = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # it is of no interest any more, and asked for so that nobody complains
        raise
