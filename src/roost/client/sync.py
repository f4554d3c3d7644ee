"""The synchronous client: ``Roost``. Used by the command line and by programs; ``asynchronous`` is its twin.

A thin shell: what to send and how to read it is in ``requests``, when to repeat in ``retry``. It never logs keys.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx

from roost.client import requests
from roost.client.credentials import find
from roost.client.requests import Answer, Call
from roost.client.resources import Endpoints, Events, Keys, Models
from roost.client.retry import delay_after_answer, delay_after_failure
from roost.client.streaming import ChatChunk, ChatStream
from roost.client.transport import NEVER_SENT, client_options, connection_failed, request_options
from roost.schemas import Whoami

T = TypeVar("T")


class Roost:
    """A client of one server.

    Without arguments it finds the server by ``ROOST_BASE_URL`` and ``ROOST_API_KEY``, else by the ``credentials.json``
    that `roost serve` leaves in its home. ``timeout`` is in seconds without a byte from the server. Raises
    ``NotConfigured`` when no server is known. All calls raise ``ApiError`` and ``ConnectionFailed``.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        home: Path | str | None = None,
        timeout: float = 60.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._credentials = find(base_url, api_key, Path(home) if home is not None else None)
        self._http = httpx.Client(transport=transport, **client_options(self._credentials, timeout))
        self._sleep = sleep
        self.endpoints = Endpoints(self)
        self.models = Models(self)
        self.keys = Keys(self)
        self.events = Events(self)

    @property
    def base_url(self) -> str:
        """The server's base URL."""
        return self._credentials.base_url

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
        method, attempt = call.request.method, 0
        while True:
            delay: float | None
            try:
                request = self._http.build_request(**request_options(self._credentials, call.request))
                response = self._http.send(request)
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
            self._sleep(delay)
            attempt += 1

    def whoami(self) -> Whoami:
        """Whose key this is."""
        return self.send(requests.whoami()).value

    def chat_stream(self, model: str, messages: Sequence[Mapping[str, Any]], **options: Any) -> Generator[ChatChunk]:
        """Stream a chat completion of an endpoint (id or name); ``options`` are further fields of the request.

        Leaving the iteration hangs up, which ends the work at the server. Raises ``ApiError`` also from within.
        """
        call = requests.chat_stream(model, messages, options)
        try:
            with self._http.stream(**request_options(self._credentials, call.request)) as response:
                if not response.is_success:
                    response.read()
                    requests.parse(call, response.status_code, response.headers, response.content)
                stream = ChatStream()
                for part in response.iter_bytes():
                    yield from stream.feed(part)
                    if stream.ended:
                        return
                stream.close()
        except httpx.TransportError as error:
            raise connection_failed(error, self.base_url) from error
