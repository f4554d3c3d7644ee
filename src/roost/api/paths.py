"""One spelling for each route: clients say ``/v1/endpoints``, ``/endpoints``, ``/v1/v1/endpoints`` and the like.

ASGI middleware, set up by ``api.app``; ``plain_path`` is pure. Names with slashes arrive percent-encoded or raw; both
are the same path once decoded, which the server has done already.
"""

from __future__ import annotations

import re

from starlette.convertors import StringConvertor, register_url_convertor
from starlette.types import ASGIApp, Receive, Scope, Send


class Named(StringConvertor):
    """An endpoint's id or name, slashes and line ends included; it ends before what a path below it is called."""

    regex = r"(?s:(?!/(?:adapters|logs)\Z).)+"


register_url_convertor("named", Named())
ENDPOINT = "/endpoints/{endpoint:named}"
"""The path of one endpoint; those below it begin with it."""

_SLASHES = re.compile("/{2,}")


def plain_path(path: str) -> str:
    """``path`` without repeated and trailing slashes, and without ``/v1``, once or twice, in front."""
    path = _SLASHES.sub("/", path).rstrip("/")
    for _ in range(2):
        if path == "/v1" or path.startswith("/v1/"):
            path = path[len("/v1") :]
    return path or "/"


class PlainPaths:
    """Rewrites each request's path to its plain spelling before routing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            scope = {**scope, "path": plain_path(scope["path"]), "asked_path": scope["path"]}
        await self._app(scope, receive, send)
