"""The outermost layer of both apps: request ids, and the one place where an unexpected exception becomes a 500.

ASGI middleware, set up by ``api.app``. It must never swallow an exception without logging it, nor show it to a client.
"""

from __future__ import annotations

import re
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from roost.api.answers import refusal

log = structlog.get_logger(__name__)

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class Boundary:
    """Gives every response an ``x-request-id`` (the request's own, if it has one) and every failure the envelope."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else str(uuid4())
        started = False

        async def send_marked(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_marked)
        except ClientDisconnect:
            # It hung up while sending its request: nobody is left to answer.
            log.info("client hung up", request_id=request_id, path=scope["path"])
        except Exception:
            log.exception("unexpected failure", request_id=request_id, method=scope["method"], path=scope["path"])
            if started:
                # The response cannot be taken back; ending the connection tells the client that it is incomplete.
                raise
            message = f"The server failed unexpectedly; its log says why under the request id {request_id}."
            await refusal(500, message, code="internal_error")(scope, receive, send_marked)
