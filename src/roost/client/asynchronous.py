"""The asynchronous client: ``AsyncRoost``, the twin of ``sync.Roost`` for programs that run an event loop.

A thin shell: what to send and how to read it is in ``requests``, when to repeat in ``retry``. It never logs keys.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx

from roost.client import requests
from roost.client.async_resources import AsyncEndpoints, AsyncEvents, AsyncKeys, AsyncModels
from roost.client.credentials import find
from roost.client.requests import Answer, Call
from roost.client.retry import delay_after_answer, delay_after_failure
from roost.client.streaming import ChatChunk, ChatStream
from roost.client.transport import NEVER_SENT, client_options, connection_failed, request_options
from roost.schemas import Whoami

T = TypeVar("T")


class AsyncRoost:
    """A client of one server, for event loops; arguments and failures are those of ``Roost``."""

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        home: Path | str | None = None,
        timeout: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._credentials = find(base_url, api_key, Path(home) if home is not None else None)
        self._http = httpx.AsyncClient(transport=transport, **client_options(self._credentials, timeout))
        self._sleep = sleep
        self.endpoints = AsyncEndpoints(self)
        self.models = AsyncModels(self)
        self.keys = AsyncKeys(self)
        self.events = AsyncEvents(self)

    @property
    def base_url(self) -> str:
        """The server's base URL."""
        return self._credentials.base_url

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncRoost:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def send(self, call: Call[T]) -> Answer[T]:
        """Send a call of ``roost.client.requests``; the answer holds the value and the JSON it came as."""
        method, attempt = call.request.method, 0
        while True:
            delay: float | None
            try:
                request = self._http.build_request(**request_options(self._credentials, call.request))
                response = await self._http.send(request)
            except httpx.TransportError as error:
                sent = not isinstance(error, NEVER_SENT)
                delay = delay_after_failure(method, attempt, sent=sent, jitter=random.random())
                if delay is None:
                    raise connection_failed(error, self.base_url) from error
            else:
                status, headers = response.status_code, response.headers
                delay = delay_after_answer(method, attempt, status, headers, random.random())
                if delay is None:
                    return requests.parse(call, status, headers, response.content)
            await self._sleep(delay)
            attempt += 1

    async def whoami(self) -> Whoami:
        """Whose key this is."""
        return (await self.send(requests.whoami())).value

    async def chat_stream(
        self, model: str, messages: Sequence[Mapping[str, Any]], **options: Any
    ) -> AsyncGenerator[ChatChunk]:
        """Stream a chat completion of an endpoint (id or name); ``options`` are further fields of the request.

        Leaving the iteration hangs up, which ends the work at the server. Raises ``ApiError`` also from within.
        """
        call = requests.chat_stream(model, messages, options)
        try:
            async with self._http.stream(**request_options(self._credentials, call.request)) as response:
                if not response.is_success:
                    await response.aread()
                    requests.parse(call, response.status_code, response.headers, response.content)
                stream = ChatStream()
                async for part in response.aiter_bytes():
                    for chunk in stream.feed(part):
                        yield chunk
                    if stream.ended:
                        return
                stream.close()
        except httpx.TransportError as error:
            raise connection_failed(error, self.base_url) from error
