"""The resources of the synchronous client, ``client.endpoints.list()`` and so on. Constructed by ``Roost`` only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from roost.client import requests
from roost.client.requests import UNSET, Answer, Call, Unset
from roost.schemas import (
    ApiKeyCreated,
    ApiKeyList,
    Endpoint,
    EndpointList,
    EventList,
    HardwareList,
    Model,
    ModelList,
    ZoneList,
)

T = TypeVar("T")


class Sender(Protocol):
    """The part of the client that resources use."""

    def send(self, call: Call[T]) -> Answer[T]:
        """Send a call and read its answer."""
        ...


class Endpoints:
    """Endpoints, hardware and zones. ``endpoint`` is an id or a name everywhere."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def create(
        self,
        *,
        model: str,
        hardware: str,
        autoscaling: Mapping[str, int],
        display_name: str | None = None,
        state: str = "STARTED",
        inactive_timeout: int | Unset | None = UNSET,
        availability_zone: str | None = None,
        disable_speculative_decoding: bool = False,
    ) -> Endpoint:
        """Deploy a model. ``autoscaling`` holds ``min_replicas`` and ``max_replicas``; ``inactive_timeout`` is in
        minutes, None or 0 is never, unset the server's default."""
        return self._sender.send(
            requests.create_endpoint(
                model=model,
                hardware=hardware,
                autoscaling=autoscaling,
                display_name=display_name,
                state=state,
                inactive_timeout=inactive_timeout,
                availability_zone=availability_zone,
                disable_speculative_decoding=disable_speculative_decoding,
            )
        ).value

    def retrieve(self, endpoint: str) -> Endpoint:
        """One endpoint."""
        return self._sender.send(requests.retrieve_endpoint(endpoint)).value

    def list(self, *, type: str | None = None, usage_type: str | None = None, mine: bool | None = None) -> EndpointList:
        """All endpoints that the key may see, newest first."""
        return self._sender.send(requests.list_endpoints(type=type, usage_type=usage_type, mine=mine)).value

    def update(
        self,
        endpoint: str,
        *,
        display_name: str | None = None,
        state: str | None = None,
        autoscaling: Mapping[str, int] | None = None,
        inactive_timeout: int | Unset | None = UNSET,
    ) -> Endpoint:
        """Change what is given, leave the rest; ``autoscaling`` may hold one of its two bounds."""
        return self._sender.send(
            requests.update_endpoint(
                endpoint,
                display_name=display_name,
                state=state,
                autoscaling=autoscaling,
                inactive_timeout=inactive_timeout,
            )
        ).value

    def delete(self, endpoint: str) -> None:
        """Delete an endpoint in any state."""
        self._sender.send(requests.delete_endpoint(endpoint))

    def list_hardware(self, model: str | None = None) -> HardwareList:
        """Hardware configurations; with a model only those it runs on, each with its availability."""
        return self._sender.send(requests.list_hardware(model)).value

    def list_avzones(self) -> ZoneList:
        """The availability zones."""
        return self._sender.send(requests.list_zones()).value


class Models:
    """The catalog of models and their weights. ``model`` is an id or an alias."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def list(self) -> ModelList:
        """The catalog."""
        return self._sender.send(requests.list_models()).value

    def retrieve(self, model: str) -> Model:
        """One model, and how far its weights are."""
        return self._sender.send(requests.retrieve_model(model)).value

    def add(self, fields: Mapping[str, Any]) -> Model:
        """Add an entry to the catalog."""
        return self._sender.send(requests.add_model(fields)).value

    def pull(self, model: str) -> Model:
        """Begin to fetch a model's weights; poll ``retrieve`` for how far they are."""
        return self._sender.send(requests.pull_model(model)).value

    def remove(self, model: str) -> None:
        """Remove an entry from the catalog."""
        self._sender.send(requests.remove_model(model))


class Keys:
    """API keys; for admins."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def create(self, *, owner: str | None = None, role: str = "member") -> ApiKeyCreated:
        """Issue an API key, of the caller's owner unless told; the answer is the only place that shows it."""
        return self._sender.send(requests.create_key(owner=owner, role=role)).value

    def list(self) -> ApiKeyList:
        """The keys that were issued, without the keys themselves."""
        return self._sender.send(requests.list_keys()).value

    def revoke(self, key_id: str) -> None:
        """Revoke a key by its id."""
        self._sender.send(requests.revoke_key(key_id))


class Events:
    """The record of who did what, and why."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def list(self, *, endpoint: str | None = None, after: int | None = None, limit: int | None = None) -> EventList:
        """Events of one endpoint or of all, oldest first; ``after`` is the sequence of the last one seen."""
        return self._sender.send(requests.list_events(endpoint=endpoint, after=after, limit=limit)).value
