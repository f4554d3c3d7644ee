"""The two HTTP apps of the control plane. Called by the composition root.

The public one is behind the gateways, which relay to it what is not inference; it authenticates each request itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

from roost._version import __version__
from roost.api import failures
from roost.api.boundary import Boundary
from roost.api.internal import create_internal_app
from roost.api.openapi import describe
from roost.api.paths import PlainPaths
from roost.api.routes import endpoints, events, hardware, identity, keys, logs, models, operations
from roost.config import Settings
from roost.services import Services

__all__ = ["create_app", "create_internal_app"]


PARTS = (endpoints, logs, hardware, models, keys, events, identity, operations)
ROUTES = tuple(route for part in PARTS for route in part.router.routes)
"""What the public API serves, but for its description."""


def create_app(services: Services, *, settings: Settings, metrics: Callable[[], bytes]) -> FastAPI:
    """The public API. ``metrics`` renders the process's metrics in the Prometheus text format."""
    app = described_app()
    app.state.services = services
    app.state.settings = settings
    app.state.metrics = metrics
    failures.register(app, ROUTES)
    # The last one added is the outermost.
    app.add_middleware(PlainPaths)
    app.add_middleware(Boundary)
    return app


def described_app() -> FastAPI:
    """The routes and their description, with nothing behind them."""
    app = FastAPI(
        title="Roost",
        version=__version__,
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for part in PARTS:
        app.include_router(part.router)
    described: list[dict[str, Any]] = []

    def openapi() -> dict[str, Any]:
        if not described:
            described.append(describe(app))
        return described[0]

    # FastAPI's own way to replace the description.
    app.openapi = openapi  # type: ignore[method-assign]
    return app
