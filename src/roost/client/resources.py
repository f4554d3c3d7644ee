"""The resources of the synchronous client, ``client.endpoints.list()`` and so on. Constructed by ``Roost`` only."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any, Protocol, TypeVar

from roost.client import requests
from roost.client.errors import ClientError
from roost.client.requests import UNSET, Answer, Call, Unset
from roost.client.streaming import EventDecoder, event_object
from roost.client.waiting import POLL_S, Done, Fail, Target, Waiting, news_key, step
from roost.schemas import (
    ApiKey,
    ApiKeyCreated,
    ApiKeyList,
    Endpoint,
    EndpointList,
    EventList,
    HardwareList,
    LogLine,
    LogList,
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

    def stream(self, call: Call[Any], *, followed: bool = False) -> Generator[bytes]:
        """The body of a call's answer as it comes."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def now(self) -> float:
        """Seconds of a clock that only goes forward."""
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
        idempotency_key: str | None = None,
    ) -> Endpoint:
        """Deploy a model; it comes up behind the answer, see ``wait``.

        ``autoscaling`` holds ``min_replicas`` and ``max_replicas``; ``inactive_timeout`` is in minutes, None or 0 is
        never, unset the server's default. For ten minutes, a repeated ``idempotency_key`` means the first one's
        endpoint; without one, each call makes a new endpoint and its own retries do not.
        """
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
                idempotency_key=idempotency_key,
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

    def start(self, endpoint: str) -> Endpoint:
        """Ask an endpoint to start; ``wait`` tells when it has."""
        return self.update(endpoint, state="STARTED")

    def stop(self, endpoint: str) -> Endpoint:
        """Ask an endpoint to stop once its requests in flight are finished."""
        return self.update(endpoint, state="STOPPED")

    def wait(
        self,
        endpoint: str,
        *,
        state: Target = "STARTED",
        timeout: float | None = None,
        poll: float = POLL_S,
        on_change: Callable[[Endpoint], object] | None = None,
    ) -> Endpoint:
        """Wait until an endpoint is STARTED, or STOPPED, and return it; it is asked for nothing.

        ``timeout`` and ``poll``, the time between two looks, are in seconds; None waits without limit. ``on_change``
        is called with the first sight and with each that has news: another state, phase, reason, tenth of a download.
        A server that is away, because it is restarted, is waited for a minute. Raises ``EndpointFailed`` (it is in
        ERROR), ``WaitTimeout``, ``WaitFailed`` (something else wants the opposite), ``NotFound`` (it was deleted).
        """
        started, told = self._sender.now(), None
        waiting, seen = Waiting(state, timeout, poll), self._look(endpoint)
        while True:
            waiting, now = step(waiting, seen, self._sender.now() - started)
            if on_change is not None and not isinstance(seen, ClientError) and news_key(seen) != told:
                told = news_key(seen)
                on_change(seen)
            if isinstance(now, Done):
                return now.endpoint
            if isinstance(now, Fail):
                raise now.error
            self._sender.sleep(now.seconds)
            seen = self._look(endpoint)

    def logs(self, endpoint: str, *, replica: str | None = None, tail: int | None = None) -> LogList:
        """The engines' last ``tail`` lines (unset: the server's default), of all replicas or of one."""
        return self._sender.send(requests.list_logs(endpoint, replica=replica, tail=tail)).value

    def follow_logs(self, endpoint: str, *, replica: str | None = None, tail: int | None = None) -> Generator[LogLine]:
        """The same lines and all that follow, until the endpoint is deleted. Leaving the iteration hangs up. Raises
        ``Timeout`` after 35 s in which not even the server's sign of life came, ``ConnectionFailed`` when it broke."""
        call, events = requests.follow_logs(endpoint, replica=replica, tail=tail), EventDecoder()
        with closing(self._sender.stream(call, followed=True)) as parts:
            for part in parts:
                for event in events.feed(part):
                    yield call.read(event_object(event))

    def delete(self, endpoint: str) -> None:
        """Delete an endpoint in any state."""
        self._sender.send(requests.delete_endpoint(endpoint))

    def list_hardware(self, model: str | None = None) -> HardwareList:
        """Hardware configurations; with a model only those it runs on, each with its availability."""
        return self._sender.send(requests.list_hardware(model)).value

    def list_avzones(self) -> ZoneList:
        """The availability zones."""
        return self._sender.send(requests.list_zones()).value

    def _look(self, endpoint: str) -> Endpoint | ClientError:
        try:
            return self.retrieve(endpoint)
        except ClientError as error:
            return error


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

    def remove(self, model: str, *, weights_only: bool = False) -> None:
        """Remove an entry from the catalog with its weights, or the weights alone."""
        self._sender.send(requests.remove_model(model, weights_only=weights_only))


class Keys:
    """API keys; for admins."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def create(
        self,
        *,
        owner: str | None = None,
        role: str = "member",
        expires_at: datetime | None = None,
        name: str | None = None,
        endpoints: Sequence[str] | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        concurrency: int | None = None,
    ) -> ApiKeyCreated:
        """Issue an API key, of the caller's owner unless told; the answer is the only place that shows it.

        ``expires_at`` has a time zone; ``endpoints`` are ids or names of those that it is for, None for all of the
        owner's. The limits are for its inference requests; None: no limit.
        """
        call = requests.create_key(
            owner=owner,
            role=role,
            expires_at=expires_at,
            name=name,
            endpoints=endpoints,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            concurrency=concurrency,
        )
        return self._sender.send(call).value

    def list(self) -> ApiKeyList:
        """The keys that were issued, without the keys themselves."""
        return self._sender.send(requests.list_keys()).value

    def retrieve(self, key_id: str) -> ApiKey:
        """One key, without the key itself."""
        return self._sender.send(requests.retrieve_key(key_id)).value

    def update(
        self,
        key_id: str,
        *,
        requests_per_minute: int | Unset | None = UNSET,
        tokens_per_minute: int | Unset | None = UNSET,
        concurrency: int | Unset | None = UNSET,
    ) -> ApiKey:
        """Change the limits that are given, leave the rest; None lifts one. Requests follow within about a second."""
        call = requests.update_key(
            key_id,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            concurrency=concurrency,
        )
        return self._sender.send(call).value

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
