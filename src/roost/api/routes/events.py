"""``/events``: who did what and why."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from roost import schemas
from roost.api.answers import answer
from roost.api.context import Asker, UseServices
from roost.api.views import event_view

router = APIRouter(tags=["events"])


@router.get("/events", response_model=schemas.EventList)
async def list_events(
    asker: Asker,
    services: UseServices,
    endpoint: Annotated[str | None, Query(description="Id or name; required unless the key is an admin's.")] = None,
    endpoint_id: Annotated[str | None, Query(description="The same as endpoint.")] = None,
    after: Annotated[int, Query(description="Only events with a higher sequence.")] = 0,
    limit: Annotated[int, Query(description="1 to 1000.")] = 100,
    order: Annotated[Literal["asc", "desc"], Query(description="desc: the newest first.")] = "asc",
) -> Response:
    """Events in the order in which they happened, or the newest first."""
    events = await services.events.list(
        asker, endpoint=endpoint or endpoint_id or None, after=after, limit=limit, newest_first=order == "desc"
    )
    return answer(schemas.EventList(data=[event_view(event) for event in events]))
