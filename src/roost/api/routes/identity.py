"""``/whoami`` and ``/v3/whoami``: whose key this is. One CLI asks before each of its commands."""

from __future__ import annotations

from fastapi import APIRouter, Response

from roost import schemas
from roost.api.answers import answer
from roost.api.context import Asker
from roost.api.views import whoami_nested, whoami_view

router = APIRouter(tags=["identity"])


@router.get("/whoami", response_model=schemas.Whoami)
async def whoami(asker: Asker) -> Response:
    """Whose key this is."""
    return answer(whoami_view(asker))


@router.get("/v3/whoami", response_model=schemas.WhoamiNested)
async def whoami_v3(asker: Asker) -> Response:
    """The same in another shape."""
    return answer(whoami_nested(asker))
