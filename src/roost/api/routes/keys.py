"""``/keys``: issuing, listing, limiting and revoking API keys."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from roost import schemas
from roost.api.answers import answer, nothing
from roost.api.bodies import json_object, parsed
from roost.api.context import Asker, UseServices, UseSettings
from roost.api.views import key_view
from roost.domain.key import KeyLimits

router = APIRouter(tags=["keys"])


@router.get("/keys", response_model=schemas.ApiKeyList)
async def list_keys(asker: Asker, services: UseServices) -> Response:
    """The keys of the caller's owner (for admins: all), oldest first. A key with an allow-list sees itself only."""
    keys = await services.keys.list(asker)
    now = services.keys.now()
    return answer(schemas.ApiKeyList(data=[key_view(key, now) for key in keys]))


@router.post("/keys", response_model=schemas.ApiKeyCreated, openapi_extra={"body": "ApiKeyCreate"})
async def create(request: Request, asker: Asker, services: UseServices, settings: UseSettings) -> Response:
    """Issue a key (admins only). The answer is the only place that shows it."""
    asker.require_admin("create keys")
    body = parsed(schemas.ApiKeyCreate, await json_object(request, settings.max_body_bytes))
    issued = await services.keys.create(
        asker,
        owner=body.owner,
        role=body.role,
        expires_at=body.expires_at,
        name=body.name,
        endpoints=body.endpoints,
        limits=KeyLimits(body.requests_per_minute, body.tokens_per_minute, body.concurrency),
    )
    view = key_view(issued.key, issued.key.created_at)
    response = answer(schemas.ApiKeyCreated(**view.model_dump(), key=issued.secret))
    response.headers["cache-control"] = "no-store"
    return response


@router.get("/keys/{key_id}", response_model=schemas.ApiKey)
async def retrieve(key_id: str, asker: Asker, services: UseServices) -> Response:
    """One key, without its secret."""
    return answer(key_view(await services.keys.get(asker, key_id), services.keys.now()))


@router.patch("/keys/{key_id}", response_model=schemas.ApiKey, openapi_extra={"body": "ApiKeyUpdate"})
async def update(key_id: str, request: Request, asker: Asker, services: UseServices, settings: UseSettings) -> Response:
    """Change a key's limits (admins only), any subset of them; null lifts one. Gateways follow at once."""
    asker.require_admin("change keys")
    body = parsed(schemas.ApiKeyUpdate, await json_object(request, settings.max_body_bytes))
    key = await services.keys.update(asker, key_id, body.model_dump(exclude_unset=True))
    return answer(key_view(key, services.keys.now()))


@router.delete("/keys/{key_id}", status_code=204)
async def revoke(key_id: str, asker: Asker, services: UseServices) -> Response:
    """Revoke a key: it is refused from now on."""
    await services.keys.revoke(asker, key_id)
    return nothing()
