"""The API's responses: wire models as JSON, failures in the one envelope. Called by routes and by ``failures``."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence

import orjson
from fastapi import Response
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from roost.domain.errors import RoostError
from roost.web.errors import body_of, error_body, status_of, type_of

JSON = "application/json"

TURNS = 3
"""Turns of the event loop that a hang-up which has reached this machine takes to be seen: read, closed, told."""


def answer(document: BaseModel, status: int = 200) -> Response:
    """``document`` as the response's body."""
    return Response(document.model_dump_json(), status, media_type=JSON)


class Delivery(Response):
    """``document`` as the response's body; ``delivered`` is awaited after its last byte was sent.

    The response is still open to the server then, so that ``Request.is_disconnected`` tells whether the client was
    there to the end: of a response that has ended, it says "disconnected" in any case.
    """

    def __init__(self, document: BaseModel, delivered: Callable[[], Awaitable[None]]) -> None:
        super().__init__(document.model_dump_json(), media_type=JSON)
        self._delivered = delivered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        for _ in range(TURNS):
            await asyncio.sleep(0)
        await self._delivered()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def bare_array(documents: Sequence[BaseModel]) -> Response:
    """``documents`` as a JSON array, which one family of clients expects of one route."""
    return Response(f"[{','.join(item.model_dump_json() for item in documents)}]", media_type=JSON)


def nothing() -> Response:
    """204, without a body."""
    return Response(status_code=204)


def refusal(
    status: int, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """The error envelope for a failure that is HTTP's own, such as an unknown route."""
    return _envelope(error_body(_plain(message), type_of(status), None, code), status, headers or {})


def failure(error: RoostError) -> Response:
    """The error envelope of an expected failure."""
    status = status_of(error)
    headers = {}
    if status == 503:
        seconds = error.retry_after.total_seconds() if error.retry_after is not None else 1
        headers["retry-after"] = str(max(1, math.ceil(seconds)))
    envelope = body_of(error)
    envelope["error"]["message"] = _plain(error.message)
    return _envelope(envelope, status, headers)


def _envelope(envelope: Mapping[str, object], status: int, headers: Mapping[str, str]) -> Response:
    return Response(orjson.dumps(envelope), status, dict(headers), media_type=JSON)


def _plain(text: str) -> str:
    # Half a surrogate pair, which a name in a message may hold, has no place in UTF-8.
    return text.encode("utf-8", "replace").decode()
