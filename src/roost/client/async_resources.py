"""The resources of the asynchronous client, the twin of ``resources``. Constructed by ``AsyncRoost`` only."""

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


class AsyncSender(Protocol):
    """The part of the client that resources use."""

    async def send(self, call: Call[T]) -> Answer[T]:
        """Send a call and read its answer."""
        ...


class AsyncEndpoints:
    """Endpoints, hardware and zones. ``endpoint`` is an id or a name everywhere."""

    def __init__(self, sender: AsyncSender) -> None:
        self._sender = sender

    async def create(
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
        answer = await self._sender.send(
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
        )
        return answer.value

    async def retrieve(self, endpoint: str) -> Endpoint:
        """One endpoint."""
        return (await self._sender.send(requests.retrieve_endpoint(endpoint))).value

    async def list(
        self, *, type: str | None = None, usage_type: str | None = None, mine: bool | None = None
    ) -> EndpointList:
        """All endpoints that the key may see, newest first."""
        return (await self._sender.send(requests.list_endpoints(type=type, usage_type=usage_type, mine=mine))).value

    async def update(
        self,
        endpoint: str,
        *,
        display_name: str | None = None,
        state: str | None = None,
        autoscaling: Mapping[str, int] | None = None,
        inactive_timeout: int | Unset | None = UNSET,
    ) -> Endpoint:
        """Change what is given, leave the rest; ``autoscaling`` may hold one of its two bounds."""
        answer = await self._sender.send(
            requests.update_endpoint(
                endpoint,
                display_name=display_name,
                state=state,
                autoscaling=autoscaling,
                inactive_timeout=inactive_timeout,
            )
        )
        return answer.value

    async def delete(self, endpoint: str) -> None:
        """Delete an endpoint in any state."""
        await self._sender.send(requests.delete_endpoint(endpoint))

    async def list_hardware(self, model: str | None = None) -> HardwareList:
        """Hardware configurations; with a model only those it runs on, each with its availability."""
        return (await self._sender.send(requests.list_hardware(model))).value

    async def list_avzones(self) -> ZoneList:
        """The availability zones."""
        return (await self._sender.send(requests.list_zones())).value


class AsyncModels:
    """The catalog of models and their weights. ``model`` is an id or an alias."""

    def __init__(self, sender: AsyncSender) -> None:
        self._sender = sender

    async def list(self) -> ModelList:
        """The catalog."""
        return (await self._sender.send(requests.list_models())).value

    async def retrieve(self, model: str) -> Model:
        """One model, and how far its weights are."""
        return (await self._sender.send(requests.retrieve_model(model))).value

    async def add(self, fields: Mapping[str, Any]) -> Model:
        """Add an entry to the catalog."""
        return (await self._sender.send(requests.add_model(fields))).value

    async def pull(self, model: str) -> Model:
        """Begin to fetch a model's weights; poll ``retrieve`` for how far they are."""
        return (await self._sender.send(requests.pull_model(model))).value

    async def remove(self, model: str) -> None:
        """Remove an entry from the catalog."""
        await self._sender.send(requests.remove_model(model))


class AsyncKeys:
    """API keys; for admins."""

    def __init__(self, sender: AsyncSender) -> None:
        self._sender = sender

    async def create(self, *, owner: str | None = None, role: str = "member") -> ApiKeyCreated:
        """Issue an API key, of the caller's owner unless told; the answer is the only place that shows it."""
        return (await self._sender.send(requests.create_key(owner=owner, role=role))).value

    async def list(self) -> ApiKeyList:
        """The keys that were issued, without the keys themselves."""
        return (await self._sender.send(requests.list_keys())).value

    async def revoke(self, key_id: str) -> None:
        """Revoke a key by its id."""
        await self._sender.send(requests.revoke_key(key_id))


class AsyncEvents:
    """The record of who did what, and why."""

    def __init__(self, sender: AsyncSender) -> None:
        self._sender = sender

    async def list(
        self, *, endpoint: str | None = None, after: int | None = None, limit: int | None = None
    ) -> EventList:
        """Events of one endpoint or of all, oldest first; ``after`` is the sequence of the last one seen."""
        return (await self._sender.send(requests.list_events(endpoint=endpoint, after=after, limit=limit))).value
