"""``/hardware`` and ``/clusters/availability-zones``."""

from __future__ import annotations

from fastapi import APIRouter, Response

from roost import schemas
from roost.api.answers import answer
from roost.api.context import Asker, UseServices
from roost.api.views import hardware_view

router = APIRouter(tags=["hardware"])


@router.get("/hardware", response_model=schemas.HardwareList)
async def list_hardware(asker: Asker, services: UseServices, model: str | None = None) -> Response:
    """All configurations with what is free of them now; judged for ``model`` when given."""
    asker.require_control()
    offers = await services.hardware.list(model or None)
    return answer(schemas.HardwareList(data=[hardware_view(offer) for offer in offers]))


@router.get("/clusters/availability-zones", response_model=schemas.ZoneList)
async def list_zones(asker: Asker, services: UseServices) -> Response:
    """The names of all availability zones."""
    asker.require_control()
    return answer(schemas.ZoneList(avzones=list(await services.hardware.zones())))
