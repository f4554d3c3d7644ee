"""Serving ASGI apps on sockets that are listening already.

Used by ``wiring.control``. It must never touch signals: the process has one owner of those.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

REQUEST_GRACE_S = 1
"""How long requests may take to finish once serving ends."""


@dataclass(frozen=True, slots=True)
class Site:
    """An app and the socket it is served on. ``endless``: its responses are streams that never end by themselves, so
    its connections are cut when serving ends."""

    app: ASGIApp
    listening: socket.socket
    endless: bool = False


class Server(uvicorn.Server):
    """A server that leaves signals alone and tells when it accepts connections."""

    def __init__(self, site: Site) -> None:
        super().__init__(
            uvicorn.Config(
                site.app,
                log_config=None,
                access_log=False,
                server_header=False,
                loop="none",
                timeout_graceful_shutdown=REQUEST_GRACE_S,
            )
        )
        self.site = site
        self.accepting = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        await super().startup(sockets)
        self.accepting.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, let requests finish."""
        if self.site.endless:
            for connection in list(self.server_state.connections):
                connection.transport.close()
        await super().shutdown(sockets)


@contextlib.asynccontextmanager
async def serving(sites: Sequence[Site]) -> AsyncIterator[asyncio.Future[None]]:
    """Serve the sites while in the context, from its first line on. The future fails if a server ends by itself."""
    servers = [Server(site) for site in sites]
    tasks = [asyncio.create_task(server.serve([server.site.listening])) for server in servers]
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
