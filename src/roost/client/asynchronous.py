"""The asynchronous client: ``AsyncRoost``, the twin of ``sync.Roost`` for programs that run an event loop.

A thin shell: what to send and how to read it is in ``requests``, when to repeat in ``sending``. It never logs keys.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import cached_property
from pathlib import Path
from random import random
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import httpx

from roost.client import requests
from roost.client.async_resources import AsyncEndpoints, AsyncEvents, AsyncKeys, AsyncModels
from roost.client.credentials import find
from roost.client.openai_bridge import async_openai_client
from roost.client.requests import Answer, Call
from roost.client.retry import MAX_RETRIES
from roost.client.sending import Sending
from roost.client.streaming import ChatChunk, ChatStream
from roost.client.transport import (
    FOLLOWED,
    TIMEOUT_S,
    client_options,
    connection_failed,
    request_options,
    was_sent,
)
from roost.schemas import Whoami

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.resources import AsyncCompletions, AsyncEmbeddings
    from openai.resources.chat import AsyncChat

T = TypeVar("T")


class AsyncRoost:
    """A client of one server, for event loops; arguments and failures are those of ``Roost``."""

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        home: Path | str | None = None,
        timeout: float = TIMEOUT_S,
        max_retries: int = MAX_RETRIES,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random,
    ) -> None:
        self._credentials = find(base_url, api_key, Path(home) if home is not None else None)
        self._http = httpx.AsyncClient(transport=transport, **client_options(self._credentials, timeout))
        self._timeout = timeout
        self._max_retries = max_retries
        self._sleep = sleep
        self._monotonic = monotonic
        self._random = random
        self.endpoints = AsyncEndpoints(self)
        self.models = AsyncModels(self)
        self.keys = AsyncKeys(self)
        self.events = AsyncEvents(self)

    @property
    def base_url(self) -> str:
        """The server's base URL."""
        return self._credentials.base_url

    @property
    def chat(self) -> AsyncChat:
        """OpenAI's ``chat``, for this server's endpoints. Raises ``MissingPackage``, in use OpenAI's own errors."""
        return self._openai.chat

    @property
    def completions(self) -> AsyncCompletions:
        """OpenAI's ``completions``, likewise."""
        return self._openai.completions

    @property
    def embeddings(self) -> AsyncEmbeddings:
        """OpenAI's ``embeddings``, likewise."""
        return self._openai.embeddings

    @cached_property
    def _openai(self) -> AsyncOpenAI:
        return async_openai_client(self._http, self._credentials, timeout=self._timeout, max_retries=self._max_retries)

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
        sending = Sending(call, self._max_retries, uuid4().hex)
        while True:
            try:
                request = self._http.build_request(**request_options(self._credentials, sending.request))
                response = await self._http.send(request)
            except httpx.TransportError as error:
                delay = sending.failed(sent=was_sent(error), jitter=self._random())
                if delay is None:
                    raise connection_failed(error, self._credentials) from error
            else:
                status, headers, body = response.status_code, response.headers, response.content
                outcome = sending.answered(status, headers, body, self._random())
                if isinstance(outcome, Answer):
                    return outcome
                delay = outcome
            await self._sleep(delay)

    async def sleep(self, seconds: float) -> None:
        """Wait; what repeats and polls waits by this."""
        await self._sleep(seconds)

    def now(self) -> float:
        """Seconds of a clock that only goes forward."""
        return self._monotonic()

    async def whoami(self) -> Whoami:
        """Whose key this is."""
        return (await self.send(requests.whoami())).value

    async def chat_stream(
        self, model: str, messages: Sequence[Mapping[str, Any]], **options: Any
    ) -> AsyncGenerator[ChatChunk]:
        """Stream a chat completion of an endpoint (id or name); ``options`` are further fields of the request.

        Leaving the iteration hangs up, which ends the work at the server. Raises ``ApiError`` also from within.
        """
        stream = ChatStream()
        async with aclosing(self.stream(requests.chat_stream(model, messages, options))) as parts:
            async for part in parts:
                for chunk in stream.feed(part):
                    yield chunk
                if stream.ended:
                    return
        stream.close()

    async def stream(self, call: Call[Any], *, followed: bool = False) -> AsyncGenerator[bytes]:
        """The body of a call's answer as it comes; with ``followed`` it is the server's part not to
        be silent for long, and the client's ``timeout`` does not hold. Sent once only."""
        options = request_options(self._credentials, call.request)
        if followed:
            options["timeout"] = FOLLOWED
        try:
            async with self._http.stream(**options) as response:
                if not response.is_success:
                    await response.aread()
                    requests.parse(call, response.status_code, response.headers, response.content)
                async for part in response.aiter_bytes():
                    yield part
        except httpx.TransportError as error:
            raise connection_failed(error, self._credentials) from error
