"""Domain objects as rows of the tables, and back.

Pure. Called by ``transactions`` and ``sql``. Knows which fields are columns; never runs a statement.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from roost.domain.creation import Creation
from roost.domain.endpoint import Endpoint, EndpointSpec, EndpointStatus
from roost.domain.event import Event
from roost.domain.key import ApiKey, KeyLimits, Role
from roost.domain.model import Model
from roost.domain.replica import Replica
from roost.store.documents import decode, encode

Values = dict[str, Any]
"""The columns of one row by name."""


def endpoint_values(endpoint: Endpoint) -> Values:
    """The row of a new endpoint."""
    return {
        "id": endpoint.id,
        "name": endpoint.name,
        "owner": endpoint.owner,
        "spec": encode(endpoint.spec),
        "spec_version": endpoint.spec_version,
        "status": encode(endpoint.status),
        "status_version": endpoint.status_version,
        "created_at": endpoint.created_at,
        "updated_at": endpoint.updated_at,
        "deleted_at": endpoint.deleted_at,
        "purged": False,
    }


def endpoint_from(row: Row[Any]) -> Endpoint:
    """The endpoint of a row of ``endpoints``."""
    return Endpoint(
        id=row.id,
        name=row.name,
        owner=row.owner,
        spec=decode(EndpointSpec, row.spec),
        status=decode(EndpointStatus, row.status),
        created_at=row.created_at,
        updated_at=row.updated_at,
        spec_version=row.spec_version,
        status_version=row.status_version,
        deleted_at=row.deleted_at,
    )


def replica_values(replica: Replica) -> Values:
    """The row of a replica."""
    document = encode(replica)
    for column in ("id", "endpoint_id", "created_at"):
        del document[column]
    return {
        "id": replica.id,
        "endpoint_id": replica.endpoint_id,
        "created_at": replica.created_at,
        "document": document,
    }


def replica_from(row: Row[Any]) -> Replica:
    """The replica of a row of ``replicas``."""
    # ``encode`` on the time: decode expects what encode writes.
    columns = {"id": row.id, "endpoint_id": row.endpoint_id, "created_at": encode(row.created_at)}
    return decode(Replica, {**row.document, **columns})


def creation_values(creation: Creation) -> Values:
    """The row of a creation that has an endpoint."""
    document = encode(creation)
    return {"endpoint_id": document.pop("endpoint_id"), "at": creation.at, "document": document}


def creation_from(row: Row[Any]) -> Creation:
    """The creation of a row of ``creations``."""
    return decode(Creation, {**row.document, "endpoint_id": row.endpoint_id})


def key_values(key: ApiKey) -> Values:
    """The row of an API key."""
    return {
        "id": key.id,
        "digest": key.digest,
        "owner": key.owner,
        "role": key.role.value,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "name": key.name,
        "endpoints": None if key.endpoints is None else list(key.endpoints),
        "requests_per_minute": key.limits.requests_per_minute,
        "tokens_per_minute": key.limits.tokens_per_minute,
        "concurrency": key.limits.concurrency,
    }


def key_from(row: Row[Any]) -> ApiKey:
    """The key of a row of ``api_keys``."""
    return ApiKey(
        id=row.id,
        digest=row.digest,
        owner=row.owner,
        role=Role(row.role),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        name=row.name,
        endpoints=None if row.endpoints is None else tuple(row.endpoints),
        limits=KeyLimits(row.requests_per_minute, row.tokens_per_minute, row.concurrency),
    )


def model_values(model: Model) -> Values:
    """The row of a catalog entry."""
    document = encode(model)
    del document["id"]
    return {"id": model.id, "document": document}


def model_from(row: Row[Any]) -> Model:
    """The model of a row of ``models``."""
    return decode(Model, {**row.document, "id": row.id})


def event_values(event: Event) -> Values:
    """The row of an event; the database numbers it."""
    return {
        "id": event.id,
        "at": event.at,
        "kind": event.kind,
        "actor": event.actor,
        "endpoint_id": event.endpoint_id,
        "replica_id": event.replica_id,
        "details": {"reason": event.reason, "data": dict(event.data)},
    }


def event_from(row: Row[Any]) -> Event:
    """The event of a row of ``events``."""
    return Event(
        id=row.id,
        at=row.at,
        kind=row.kind,
        actor=row.actor,
        reason=row.details["reason"],
        endpoint_id=row.endpoint_id,
        replica_id=row.replica_id,
        data=row.details["data"],
        sequence=row.sequence,
    )
