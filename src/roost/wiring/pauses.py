"""The waiting of streams that never end by themselves: it is cut short when serving ends, so that they end in order.

Made by ``wiring.control``; the services wait with it.
"""

from __future__ import annotations

import asyncio

from roost.domain.errors import NotReady


class Pauses:
    """All pauses of one process."""

    def __init__(self) -> None:
        self._over = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Return after so many seconds. Raises ``NotReady`` when serving has ended, or ends meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            return
        raise NotReady("The server is shutting down. Ask again when it is back.")

    def end(self) -> None:
        """End all pauses, now and later."""
        self._over.set()
