"""The synchronous client: ``Roost``. Used by the command line and by programs; ``asynchronous`` is its twin.

A thin shell: what to send and how to read it is in ``requests``, when to repeat in ``sending``. It never logs keys.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from random import random
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import httpx

from roost.client import requests
from roost.client.credentials import find
from roost.client.openai_bridge import openai_client
from roost.client.requests import Answer, Call
from roost.client.resources import Endpoints, Events, Keys, Models
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
    from openai import OpenAI
    from openai.resources import Completions, Embeddings
    from openai.resources.chat import Chat

T = TypeVar("T")


class Roost:
    """A client of one server.

    Without arguments it finds the server by ``ROOST_BASE_URL`` and ``ROOST_API_KEY``, else by the ``credentials.json``
    that `roost serve` leaves in its home. ``timeout`` is in seconds without a byte from the server; ``max_retries`` is
    how often a request is sent again that failed in passing and may be repeated (``roost.client.retry``). The last
    four parameters are for tests. Raises ``NotConfigured`` when no server is known. All calls raise ``ApiError`` and
    ``ConnectionFailed``.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        home: Path | str | None = None,
        timeout: float = TIMEOUT_S,
        max_retries: int = MAX_RETRIES,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random,
    ) -> None:
        self._credentials = find(base_url, api_key, Path(home) if home is not None else None)
        self._http = httpx.Client(transport=transport, **client_options(self._credentials, timeout))
        self._timeout = timeout
        self._max_retries = max_retries
        self._sleep = sleep
        self._monotonic = monotonic
        self._random = random
        self.endpoints = Endpoints(self)
        self.models = Models(self)
        self.keys = Keys(self)
        self.events = Events(self)

    @property
    def base_url(self) -> str:
        """The server's base URL."""
        return self._credentials.base_url

    @property
    def chat(self) -> Chat:
        """OpenAI's ``chat``, for this server's endpoints. Raises ``MissingPackage``, in use OpenAI's own errors."""
        return self._openai.chat

    @property
    def completions(self) -> Completions:
        """OpenAI's ``completions``, likewise."""
        return self._openai.completions

    @property
    def embeddings(self) -> Embeddings:
        """OpenAI's ``embeddings``, likewise."""
        return self._openai.embeddings

    @cached_property
    def _openai(self) -> OpenAI:
        return openai_client(self._http, self._credentials, timeout=self._timeout, max_retries=self._max_retries)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Roost:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, call: Call[T]) -> Answer[T]:
        """Send a call of ``roost.client.requests``; the answer holds the value and the JSON it came as."""
        sending = Sending(call, self._max_retries, uuid4().hex)
        while True:
            try:
                request = self._http.build_request(**request_options(self._credentials, sending.request))
                response = self._http.send(request)
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
            self._sleep(delay)

    def sleep(self, seconds: float) -> None:
        """Wait; what repeats and polls waits by this."""
        self._sleep(seconds)

    def now(self) -> float:
        """Seconds of a clock that only goes forward."""
        return self._monotonic()

    def whoami(self) -> Whoami:
        """Whose key this is."""
        return self.send(requests.whoami()).value

    def chat_stream(self, model: str, messages: Sequence[Mapping[str, Any]], **options: Any) -> Generator[ChatChunk]:
        """Stream a chat completion of an endpoint (id or name); ``options`` are further fields of the request.

        Leaving the iteration hangs up, which ends the work at the server. Raises ``ApiError`` also from within.
        """
        stream = ChatStream()
        with closing(self.stream(requests.chat_stream(model, messages, options))) as parts:
            for part in parts:
                yield from stream.feed(part)
                if stream.ended:
                    return
        stream.close()

    def stream(self, call: Call[Any], *, followed: bool = False) -> Generator[bytes]:
        """The body of a call's answer as it comes; with ``followed`` it is the server's part not to
        be silent for long, and the client's ``timeout`` does not hold. Sent once only."""
        options = request_options(self._credentials, call.request)
        if followed:
            options["timeout"] = FOLLOWED
        try:
            with self._http.stream(**options) as response:
                if not response.is_success:
                    response.read()
                    requests.parse(call, response.status_code, response.headers, response.content)
                yield from response.iter_bytes()
        except httpx.TransportError as error:
            raise connection_failed(error, self._credentials) from error
