"""The work queue: endpoint ids, nothing else. An id waits in it at most once, and is worked on by one worker at a time;
what is added meanwhile is worked on again afterwards. Called by the plane and its workers."""

from __future__ import annotations

import asyncio
from datetime import timedelta


class WorkQueue:
    """Endpoint ids to look at, with delays."""

    def __init__(self) -> None:
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: set[str] = set()
        self._working: set[str] = set()
        self._again: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def add(self, endpoint_id: str) -> None:
        """Put the id into the queue now (once)."""
        timer = self._timers.pop(endpoint_id, None)
        if timer is not None:
            timer.cancel()
        if endpoint_id in self._working:
            self._again.add(endpoint_id)
        elif endpoint_id not in self._waiting:
            self._waiting.add(endpoint_id)
            self._ready.put_nowait(endpoint_id)

    def add_after(self, endpoint_id: str, delay: timedelta) -> None:
        """Put the id into the queue after ``delay``, unless it is due earlier."""
        if delay <= timedelta(0):
            self.add(endpoint_id)
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + delay.total_seconds()
        timer = self._timers.get(endpoint_id)
        if timer is not None and timer.when() <= when:
            return
        if timer is not None:
            timer.cancel()
        self._timers[endpoint_id] = loop.call_at(when, self.add, endpoint_id)

    async def get(self) -> str:
        """The next id; the caller works on it and then says ``done``."""
        endpoint_id = await self._ready.get()
        self._waiting.discard(endpoint_id)
        self._working.add(endpoint_id)
        return endpoint_id

    def done(self, endpoint_id: str) -> None:
        """The work on the id has ended."""
        self._working.discard(endpoint_id)
        if endpoint_id in self._again:
            self._again.discard(endpoint_id)
            self.add(endpoint_id)

    def close(self) -> None:
        """Drop all timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
