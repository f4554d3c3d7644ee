"""A write is answered when gateways know of it: who creates an endpoint or a key can use it with the next request.

Wraps the public API in ``wiring.control``. It must never hold an answer for long: a gateway that does not follow is
that gateway's trouble.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

WRITES = frozenset({"POST", "PATCH", "PUT", "DELETE"})
PATIENCE_S = 1.0


class AppliedWrites:
    """ASGI middleware. ``applied`` returns once every connected gateway serves by what has been written so far."""

    def __init__(self, app: ASGIApp, applied: Callable[[], Awaitable[None]], patience_s: float = PATIENCE_S) -> None:
        self._app = app
        self._applied = applied
        self._patience_s = patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_late(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 300:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._patience_s):
                        await self._applied()
            await send(message)

        writes = scope["type"] == "http" and scope["method"] in WRITES
        await self._app(scope, receive, send_late if writes else send)
