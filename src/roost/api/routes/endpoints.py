"""``/endpoints``: create, list, read, change, delete; adapters are answered with 501."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import uuid4

import orjson
from fastapi import APIRouter, Query, Request, Response

from roost import schemas
from roost.api.answers import Delivery, answer, nothing, refusal
from roost.api.bodies import json_object, parsed
from roost.api.context import Asker, UseServices, UseSettings
from roost.api.paths import ENDPOINT
from roost.api.views import endpoint_list, endpoint_view
from roost.domain.creation import DELIVERY_HEADER, Wish
from roost.domain.endpoint import Endpoint
from roost.domain.errors import BadRequest, NotFound
from roost.services import Services
from roost.services.access import Principal
from roost.services.endpoint_requests import UNSET, Bounds, EndpointChange, EndpointDraft
from roost.services.recent_creates import Ask

router = APIRouter(tags=["endpoints"])

FIXED = ("model", "hardware", "availability_zone", "zone_required", "disable_speculative_decoding")
"""Fields that cannot be changed."""


@router.post("/endpoints", response_model=schemas.Endpoint, openapi_extra={"body": "EndpointCreate"})
async def create(
    request: Request,
    asker: Asker,
    services: UseServices,
    settings: UseSettings,
    availability_zone: Annotated[str | None, Query(description="As in the body.")] = None,
) -> Response:
    """Deploy a model. Answers at once; the endpoint comes up behind it."""
    asker.require_create()
    data = await json_object(request, settings.max_body_bytes)
    draft = _draft(data, availability_zone)
    ask = _ask(request, asker, data, availability_zone)

    async def make() -> str:
        return (await services.endpoints.create(asker, draft, ask.wish)).id

    endpoint_id, is_new = await services.recent_creates.once(ask, make)
    try:
        endpoint = await services.endpoints.get(asker, endpoint_id)
    except NotFound:
        if is_new:
            raise
        # The endpoint of the earlier request was deleted meanwhile.
        services.recent_creates.forget(endpoint_id)
        endpoint_id, _ = await services.recent_creates.once(ask, make)
        endpoint = await services.endpoints.get(asker, endpoint_id)

    async def delivered() -> None:
        await services.recent_creates.answered(ask)

    return Delivery(endpoint_view(endpoint, await services.endpoints.replicas(endpoint)), delivered)


@router.get("/endpoints", response_model=schemas.EndpointList)
async def list_all(
    asker: Asker,
    services: UseServices,
    type: Literal["dedicated", "serverless"] | None = None,
    usage_type: Literal["on-demand", "reserved"] | None = None,
    mine: bool = False,
) -> Response:
    """All endpoints that the key may see, newest first. There are only dedicated ones, on demand."""
    endpoints = await services.endpoints.list(asker, mine=mine)
    if type == "serverless" or usage_type == "reserved":
        endpoints = []
    return answer(endpoint_list(endpoints, await services.endpoints.all_replicas()))


@router.api_route(f"{ENDPOINT}/adapters", methods=["GET", "POST", "DELETE"], include_in_schema=False)
async def adapters(asker: Asker) -> Response:
    """Adapters are not offered."""
    message = "LoRA adapters are not offered by this server yet."
    return refusal(501, message, code="not_implemented", headers={"x-should-retry": "false"})


@router.get(ENDPOINT, response_model=schemas.Endpoint)
async def retrieve(endpoint: str, asker: Asker, services: UseServices) -> Response:
    """One endpoint, by id or name."""
    return await _one(services, await services.endpoints.get(asker, endpoint))


@router.patch(ENDPOINT, response_model=schemas.Endpoint, openapi_extra={"body": "EndpointUpdate"})
async def update(
    endpoint: str, request: Request, asker: Asker, services: UseServices, settings: UseSettings
) -> Response:
    """Change any subset of display_name, state, autoscaling and inactive_timeout: all of it or nothing."""
    data = await json_object(request, settings.max_body_bytes)
    return await _one(services, await services.endpoints.update(asker, endpoint, _change(data)))


@router.delete(ENDPOINT, status_code=204)
async def delete(endpoint: str, asker: Asker, services: UseServices) -> Response:
    """Delete an endpoint in any state."""
    deleted = await services.endpoints.delete(asker, endpoint)
    services.recent_creates.forget(deleted.id)
    return nothing()


async def _one(services: Services, endpoint: Endpoint) -> Response:
    return answer(endpoint_view(endpoint, await services.endpoints.replicas(endpoint)))


def _draft(data: Mapping[str, Any], zone_in_query: str | None) -> EndpointDraft:
    """The body, with the zone from the query where the body has none. Raises ``BadRequest``."""
    body = parsed(schemas.EndpointCreate, data)
    if zone_in_query and body.availability_zone and zone_in_query != body.availability_zone:
        raise BadRequest("availability_zone in the query and in the body differ: send one.", param="availability_zone")
    bounds = body.autoscaling
    return EndpointDraft(
        model=body.model,
        hardware=body.hardware,
        autoscaling=None if bounds is None else Bounds(bounds.min_replicas, bounds.max_replicas),
        display_name=body.display_name,
        state=body.state,
        inactive_timeout=body.inactive_timeout if "inactive_timeout" in body.model_fields_set else UNSET,
        availability_zone=body.availability_zone or zone_in_query,
        zone_required=bool(body.zone_required),
        disable_speculative_decoding=bool(body.disable_speculative_decoding),
    )


def _change(data: Mapping[str, Any]) -> EndpointChange:
    """The body of an update. Raises ``BadRequest``."""
    for field in FIXED:
        if field in data:
            raise BadRequest(
                f"{field} cannot be changed: make a new deployment instead.", param=field, code="immutable_field"
            )
    body = parsed(schemas.EndpointUpdate, data)
    given = body.model_fields_set
    bounds = Bounds(body.autoscaling.min_replicas, body.autoscaling.max_replicas)
    return EndpointChange(
        display_name=body.display_name if "display_name" in given else None,
        state=body.state if "state" in given else None,
        autoscaling=bounds if "autoscaling" in given else None,
        inactive_timeout=body.inactive_timeout if "inactive_timeout" in given else UNSET,
    )


def _ask(request: Request, asker: Principal, data: Mapping[str, Any], zone_in_query: str | None) -> Ask:
    canonical = orjson.dumps([data, zone_in_query or ""], option=orjson.OPT_SORT_KEYS)
    attempts = request.headers.get("x-stainless-retry-count")
    answer_name = request.headers.get(DELIVERY_HEADER)
    wish = Wish(
        key_id=asker.key_id,
        fingerprint=hashlib.sha256(canonical).hexdigest(),
        attempt=None if attempts is None else int(attempts) if re.fullmatch("[0-9]{1,9}", attempts) else 0,
        answer=answer_name or str(uuid4()),
        idempotency_key=request.headers.get("idempotency-key") or None,
    )
    return Ask(wish, request.is_disconnected, tracked=answer_name is not None)
