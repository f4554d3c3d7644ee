"""``/endpoints/{id}/logs``: what the engines say, as a list or, with ``follow``, as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from roost import schemas
from roost.api.answers import answer
from roost.api.context import Asker, UseServices
from roost.api.context import asker as who_asks
from roost.api.paths import ENDPOINT
from roost.api.views import log_lines
from roost.domain.errors import RoostError
from roost.domain.log import ReplicaLog
from roost.services.logs import POLL_S
from roost.web.errors import body_of

router = APIRouter(tags=["endpoints"])

KEEP_ALIVE_S = 10.0
"""Longest silence of a stream, in seconds; then a comment is sent."""

_STREAM: dict[str, Any] = {
    "description": "With follow: unnamed events whose data is a line as in the list.",
    "content": {"application/json": {}, "text/event-stream": {}},
}


@router.get(f"{ENDPOINT}/logs", response_model=schemas.LogList, responses={200: _STREAM})
async def logs(
    endpoint: str,
    request: Request,
    asker: Asker,
    services: UseServices,
    replica: Annotated[str | None, Query(description="Only of this replica, also when it has ended.")] = None,
    tail: Annotated[int, Query(description="Last lines of each replica; 0 to 10000.")] = 200,
    follow: Annotated[bool, Query(description="Go on with new lines until the deployment is deleted.")] = False,
) -> Response:
    """The engines' output: of the replicas that run, else of the one that ended last."""
    wanted = replica or None
    if not follow:
        found = await services.logs.tail(asker, endpoint, replica=wanted, tail=tail)
        return answer(schemas.LogList(data=log_lines(found)))
    batches = services.logs.follow(partial(who_asks, request), endpoint, replica=wanted, tail=tail)
    # The first step tells what is wrong with the request while there can still be a status.
    first = await anext(batches)
    return _Stream(first, batches)


class _Stream(StreamingResponse):
    """The events of ``batches``, which end with the answer, also when the client hangs up in the middle of it."""

    def __init__(self, first: Sequence[ReplicaLog], batches: AsyncGenerator[Sequence[ReplicaLog]]) -> None:
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        self._batches, self._events = batches, _frames(first, batches)
        super().__init__(self._events, media_type="text/event-stream", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._batches), aclosing(self._events):
            await super().__call__(scope, receive, send)


async def _frames(first: Sequence[ReplicaLog], batches: AsyncGenerator[Sequence[ReplicaLog]]) -> AsyncGenerator[bytes]:
    yield b": following\n\n" + _data(first)
    silent_s = 0.0
    try:
        async for batch in batches:
            data = _data(batch)
            silent_s = 0.0 if data else silent_s + POLL_S
            if silent_s >= KEEP_ALIVE_S:
                silent_s = 0.0
                data = b": keep-alive\n\n"
            if data:
                yield data
    except RoostError as error:
        # The key was revoked, say: the status is long sent.
        yield b"data: " + orjson.dumps(body_of(error)) + b"\n\n"


def _data(batch: Sequence[ReplicaLog]) -> bytes:
    return b"".join(b"data: " + line.model_dump_json().encode() + b"\n\n" for line in log_lines(batch))
