"""Serving ASGI apps on sockets that are listening already.

Used by ``wiring.control``. It must never touch signals: the process has one owner of those.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator, Sequence

import uvicorn
from fastapi import FastAPI

REQUEST_GRACE_S = 1
"""How long requests may take to finish once serving ends; watch streams never do and are cut."""


class Server(uvicorn.Server):
    """A server that leaves signals alone and tells when it accepts connections."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(
                app, log_config=None, access_log=False, loop="none", timeout_graceful_shutdown=REQUEST_GRACE_S
            )
        )
        self.accepting = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        await super().startup(sockets)
        self.accepting.set()


@contextlib.asynccontextmanager
async def serving(apps: Sequence[tuple[FastAPI, socket.socket]]) -> AsyncIterator[asyncio.Future[None]]:
    """Serve the apps while in the context, from its first line on. The future fails if a server ends by itself."""
    servers = [Server(app) for app, _ in apps]
    tasks = [asyncio.create_task(server.serve([at])) for server, (_, at) in zip(servers, apps, strict=True)]
    ended = asyncio.ensure_future(_any_ended(tasks))
    accepting = asyncio.ensure_future(_all_accept(servers))
    try:
        await asyncio.wait({ended, accepting}, return_when=asyncio.FIRST_COMPLETED)
        yield ended
    finally:
        for waiting in (ended, accepting):
            waiting.cancel()
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*tasks)


async def _all_accept(servers: Sequence[Server]) -> None:
    for server in servers:
        await server.accepting.wait()


async def _any_ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    raise RuntimeError("An HTTP server of the control plane ended by itself.")
