"""``/metrics`` of the control plane, and the way from ``/`` to the console."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request, Response
from starlette.responses import RedirectResponse

from roost.api.context import Asker

router = APIRouter(tags=["operations"])

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/metrics", response_class=Response)
async def metrics(request: Request, asker: Asker) -> Response:
    """The control plane's metrics in the Prometheus text format."""
    return Response(request.app.state.metrics(), media_type=PROMETHEUS)


@router.get("/", include_in_schema=False)
async def root(request: Request) -> Response:
    """People go to the console; programs are told that there is nothing here."""
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse("/console/", status_code=302)
    raise HTTPException(404)
