"""``/models``: the catalog, in the shape that the client at hand can read."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from roost import schemas
from roost.api.answers import answer, bare_array
from roost.api.bodies import json_object, parsed
from roost.api.context import Asker, UseServices, UseSettings
from roost.api.views import model_of, model_view
from roost.web.clients import is_classic

router = APIRouter(tags=["models"])

WeightsOnly = Annotated[bool, Query(description="Keep the entry, and free the disk of its weights.")]


@router.get("/models", response_model=schemas.ModelList)
async def list_models(request: Request, asker: Asker, services: UseServices, dedicated: bool = False) -> Response:
    """The catalog. Everything in it can be deployed, so ``dedicated`` takes nothing away."""
    views = [model_view(item) for item in await services.models.list(asker)]
    if is_classic(request.headers.get("user-agent", "").encode("latin-1")):
        return bare_array(views)
    return answer(schemas.ModelList(data=views))


@router.post("/models", response_model=schemas.Model, openapi_extra={"body": "ModelCreate"})
async def add(request: Request, asker: Asker, services: UseServices, settings: UseSettings) -> Response:
    """Add a catalog entry (admins only)."""
    asker.require_admin("add models")
    body = parsed(schemas.ModelCreate, await json_object(request, settings.max_body_bytes))
    return answer(model_view(await services.models.add(asker, model_of(body))))


@router.post("/models/{model:path}/pull", response_model=schemas.Model)
async def pull(model: str, asker: Asker, services: UseServices) -> Response:
    """Begin to fetch a model's weights; the answer says how far they are."""
    return answer(model_view(await services.models.pull(asker, model)))


@router.get("/models/{model:path}", response_model=schemas.Model)
async def retrieve(model: str, asker: Asker, services: UseServices) -> Response:
    """One model, by id or alias."""
    return answer(model_view(await services.models.get(asker, model)))


@router.delete("/models/{model:path}", response_model=schemas.ModelDeleted)
async def remove(model: str, asker: Asker, services: UseServices, weights_only: WeightsOnly = False) -> Response:
    """Remove a catalog entry with its weights, or the weights alone (admins only)."""
    models = services.models
    removed = await (models.remove_weights(asker, model) if weights_only else models.remove(asker, model))
    return answer(schemas.ModelDeleted(id=removed.model.id, deleted=not weights_only, freed_bytes=removed.freed))
