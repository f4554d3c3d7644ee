"""Builders of domain objects for tests: every field has a default, every argument replaces one.

Deterministic: ``number`` makes ids, names and times distinct, and the same number gives an equal object. They check
nothing; a test may build what services would refuse.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from typing import Any
from uuid import UUID

from roost.domain import ids
from roost.domain.creation import Creation, Wish
from roost.domain.endpoint import Autoscaling, Endpoint, EndpointSpec, EndpointStatus
from roost.domain.event import Event
from roost.domain.key import ApiKey, Role, digest_of
from roost.domain.lifecycle import State
from roost.domain.model import Model, Source
from roost.domain.replica import Replica, ReplicaState
from roost.testing.clock import START

_SPEC_FIELDS = frozenset(field.name for field in fields(EndpointSpec))
_STATUS_FIELDS = frozenset(field.name for field in fields(EndpointStatus))


def uuid_of(number: int) -> UUID:
    """A UUID whose first and last hex digits both tell ``number``."""
    return UUID(int=(number << 96) + number)


def make_spec(**over: Any) -> EndpointSpec:
    """A spec: ``test/model`` on one CPU thread, one replica, wanted STARTED."""
    values: dict[str, Any] = {
        "model": "test/model",
        "hardware": "1x_cpu",
        "autoscaling": Autoscaling(1, 1),
        "display_name": "Test endpoint",
    }
    return EndpointSpec(**{**values, **over})


def make_status(**over: Any) -> EndpointStatus:
    """A status: PENDING, nothing known."""
    values: dict[str, Any] = {"state": State.PENDING}
    return EndpointStatus(**{**values, **over})


def make_endpoint(number: int = 1, **over: Any) -> Endpoint:
    """An endpoint of owner ``roost``, created ``number`` seconds after the start of fake time.

    ``over`` takes the fields of ``Endpoint`` and, for brevity, those of its spec and status, which share no name:
    ``make_endpoint(2, model="a/b", state=State.STARTED)``.
    """
    spec = {name: over.pop(name) for name in list(over) if name in _SPEC_FIELDS}
    status = {name: over.pop(name) for name in list(over) if name in _STATUS_FIELDS}
    uuid = uuid_of(number)
    owner = over.get("owner", "roost")
    created_at = over.get("created_at", START + timedelta(seconds=number))
    values: dict[str, Any] = {
        "id": ids.endpoint_id(uuid),
        "owner": owner,
        "spec": make_spec(**spec),
        "status": make_status(**status),
        "created_at": created_at,
        "updated_at": created_at,
    }
    values = {**values, **over}
    values.setdefault("name", ids.endpoint_name(owner, values["spec"].model, uuid))
    return Endpoint(**values)


def make_creation(number: int = 1, **over: Any) -> Creation:
    """The creation of ``make_endpoint(number)`` by ``make_key()``; nothing is known of its answer.

    ``over`` takes the fields of ``Creation`` and those of its wish.
    """
    wish: dict[str, Any] = {
        "key_id": ids.key_id(uuid_of(1)),
        "fingerprint": "body",
        "attempt": 0,
        "answer": f"answer-{number}",
    }
    wish = {name: over.pop(name, value) for name, value in {**wish, "idempotency_key": None}.items()}
    at = START + timedelta(seconds=number)
    values: dict[str, Any] = {
        "endpoint_id": ids.endpoint_id(uuid_of(number)),
        "wish": Wish(**wish),
        "at": at,
        "told_at": over.get("at", at),
    }
    return Creation(**{**values, **over})


def make_replica(number: int = 1, **over: Any) -> Replica:
    """A LAUNCHING replica of ``make_endpoint()`` on node ``local``."""
    # ``replica_id`` reads the first digits of the UUID.
    values: dict[str, Any] = {
        "id": ids.replica_id(uuid_of(number)),
        "endpoint_id": ids.endpoint_id(uuid_of(1)),
        "state": ReplicaState.LAUNCHING,
        "node_id": "local",
        "zone": "local",
        "hardware": "1x_cpu",
        "created_at": START + timedelta(seconds=number),
    }
    return Replica(**{**values, **over})


def secret_of(number: int = 1) -> str:
    """The key that ``make_key(number)`` is the record of, as a client would send it."""
    return f"rk-test-{number}"


def make_key(number: int = 1, **over: Any) -> ApiKey:
    """An admin's key of owner ``roost`` that never expires."""
    values: dict[str, Any] = {
        "id": ids.key_id(uuid_of(number)),
        "digest": digest_of(secret_of(number)),
        "owner": "roost",
        "role": Role.ADMIN,
        "created_at": START + timedelta(seconds=number),
    }
    return ApiKey(**{**values, **over})


def make_model(number: int = 1, **over: Any) -> Model:
    """A chat model ``test/model`` (``test/model-<number>`` from 2 on) that the engine ``echo`` runs from a file."""
    name = "model" if number == 1 else f"model-{number}"
    values: dict[str, Any] = {
        "id": f"test/{name}",
        "engine": "echo",
        "source": Source("file", f"/nowhere/{name}.gguf"),
        "display_name": f"Test model {number}",
        "organization": "test",
        "created_at": START + timedelta(seconds=number),
    }
    return Model(**{**values, **over})


def make_event(number: int = 1, **over: Any) -> Event:
    """An event of the system about ``make_endpoint()``."""
    values: dict[str, Any] = {
        "id": ids.event_id(uuid_of(number)),
        "at": START + timedelta(seconds=number),
        "kind": "endpoint.changed",
        "actor": "system",
        "reason": f"test event {number}",
        "endpoint_id": ids.endpoint_id(uuid_of(1)),
    }
    return Event(**{**values, **over})
