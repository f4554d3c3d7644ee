"""Every request of the API as a value, and the reading of its answer. Pure: no I/O, no clock, no environment.

The shells (``sync``, ``asynchronous``) send what the functions here build; the command line uses them directly where
it needs the JSON as it came.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from roost.client.errors import ApiError, UnexpectedAnswer, kind_of
from roost.client.retry import retry_after
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
    ModelDeleted,
    ModelList,
    Whoami,
    ZoneList,
)

IDEMPOTENCY_KEY = "idempotency-key"

T = TypeVar("T")
B = TypeVar("B", bound=BaseModel)


class Unset:
    """The type of ``UNSET``."""


UNSET = Unset()
"""Leaves a field out of a request, where None has a meaning of its own."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to send: ``path`` is percent-encoded and relative to the base URL, ``json`` None means no body.

    ``takes_key`` tells that the server knows a repetition by its ``Idempotency-Key``; ``harmless`` that a repetition
    changes nothing, which is so of all methods but POST anyway.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    takes_key: bool = False
    harmless: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice is the same as once."""
        return self.method != "POST" or self.harmless or IDEMPOTENCY_KEY in self.headers


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, and how the JSON of its success becomes a value."""

    request: Request
    read: Callable[[Any], T]


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """The value of a success, and the JSON it came as (None: no body); ``sandbox`` tells that a sandbox answered."""

    value: T
    json: Any
    sandbox: bool = False


def parse(call: Call[T], status: int, headers: Mapping[str, str], body: bytes) -> Answer[T]:
    """The answer to a call. Raises ``ApiError`` for a refusal, ``UnexpectedAnswer`` for what no Roost server sends."""
    if not 200 <= status < 300:
        raise _refusal(status, headers, body)
    try:
        value = json.loads(body) if body.strip() else None
        return Answer(call.read(value), value, _of_sandbox(headers))
    except (ValueError, ValidationError, TypeError, KeyError) as error:
        about = "unexpected JSON" if isinstance(error, ValidationError) else "no JSON"
        what = f"{call.request.method} {call.request.path} was answered with {about}"
        raise UnexpectedAnswer(f"{what}: is the base URL that of a Roost server?") from error


def _of_sandbox(headers: Mapping[str, str]) -> bool:
    return headers.get("x-roost-sandbox") == "true"


def _refusal(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    about: Any = None
    try:
        about = json.loads(body)["error"]
        message = str(about["message"])
    except (ValueError, KeyError, TypeError):
        about, message = {}, f"The server answered with status {status} and no explanation."
    return kind_of(status)(
        message,
        status=status,
        type=about.get("type"),
        code=about.get("code"),
        param=about.get("param"),
        request_id=headers.get("x-request-id"),
        retry_after=retry_after(headers),
        sandbox=_of_sandbox(headers),
    )


def create_endpoint(
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
) -> Call[Endpoint]:
    """Deploy a model. ``autoscaling`` holds ``min_replicas`` and ``max_replicas``; ``inactive_timeout`` is in minutes,
    None or 0 is never, unset the server's default. A repeated ``idempotency_key`` means the first one's endpoint."""
    body: dict[str, Any] = {
        "model": model,
        "hardware": hardware,
        "autoscaling": dict(autoscaling),
        "state": state,
        "disable_speculative_decoding": disable_speculative_decoding,
        **_given(display_name=display_name, availability_zone=availability_zone),
    }
    if not isinstance(inactive_timeout, Unset):
        body["inactive_timeout"] = inactive_timeout
    headers = {} if idempotency_key is None else {IDEMPOTENCY_KEY: idempotency_key}
    return Call(Request("POST", "/endpoints", json=body, headers=headers, takes_key=True), _as(Endpoint))


def list_endpoints(
    *, type: str | None = None, usage_type: str | None = None, mine: bool | None = None
) -> Call[EndpointList]:
    """All endpoints that the key may see, newest first."""
    wanted = None if mine is None else str(mine).lower()
    return Call(Request("GET", "/endpoints", _given(type=type, usage_type=usage_type, mine=wanted)), _as(EndpointList))


def retrieve_endpoint(endpoint: str) -> Call[Endpoint]:
    """One endpoint by id or name."""
    return Call(Request("GET", f"/endpoints/{_segment(endpoint)}"), _as(Endpoint))


def update_endpoint(
    endpoint: str,
    *,
    display_name: str | None = None,
    state: str | None = None,
    autoscaling: Mapping[str, int] | None = None,
    inactive_timeout: int | Unset | None = UNSET,
) -> Call[Endpoint]:
    """Change what is given, leave the rest; ``autoscaling`` may hold one of its two bounds."""
    bounds = None if autoscaling is None else dict(autoscaling)
    body: dict[str, Any] = _given(display_name=display_name, state=state, autoscaling=bounds)
    if not isinstance(inactive_timeout, Unset):
        body["inactive_timeout"] = inactive_timeout
    return Call(Request("PATCH", f"/endpoints/{_segment(endpoint)}", json=body), _as(Endpoint))


def delete_endpoint(endpoint: str) -> Call[None]:
    """Delete an endpoint in any state."""
    return Call(Request("DELETE", f"/endpoints/{_segment(endpoint)}"), _nothing)


def list_logs(endpoint: str, *, replica: str | None = None, tail: int | None = None) -> Call[LogList]:
    """The engines' output: the last ``tail`` lines of each replica, or of one of them."""
    return Call(Request("GET", f"/endpoints/{_segment(endpoint)}/logs", _tail(replica, tail)), _as(LogList))


def follow_logs(endpoint: str, *, replica: str | None = None, tail: int | None = None) -> Call[LogLine]:
    """The same as a stream that goes on with new lines; its events are read by the shells, each as one ``LogLine``."""
    query = {**_tail(replica, tail), "follow": "true"}
    return Call(Request("GET", f"/endpoints/{_segment(endpoint)}/logs", query), _as(LogLine))


def list_hardware(model: str | None = None) -> Call[HardwareList]:
    """Hardware configurations; with a model only those it runs on, each with its availability."""
    return Call(Request("GET", "/hardware", _given(model=model)), _as(HardwareList))


def list_zones() -> Call[ZoneList]:
    """The availability zones."""
    return Call(Request("GET", "/clusters/availability-zones"), _as(ZoneList))


def list_models() -> Call[ModelList]:
    """The catalog."""
    return Call(Request("GET", "/models"), _as(ModelList))


def retrieve_model(model: str) -> Call[Model]:
    """One model by id or alias."""
    return Call(Request("GET", f"/models/{_segment(model)}"), _as(Model))


def add_model(fields: Mapping[str, Any]) -> Call[Model]:
    """Add an entry to the catalog; ``fields`` as in ``roost.schemas.ModelCreate``."""
    return Call(Request("POST", "/models", json=dict(fields)), _as(Model))


def pull_model(model: str) -> Call[Model]:
    """Begin to fetch a model's weights; the answer says how far they are."""
    return Call(Request("POST", f"/models/{_segment(model)}/pull", json={}, harmless=True), _as(Model))


def remove_model(model: str, *, weights_only: bool = False) -> Call[ModelDeleted]:
    """Remove an entry from the catalog with its weights, or the weights alone."""

    def read(value: Any) -> ModelDeleted:
        if value is None:
            return ModelDeleted(id=model, deleted=not weights_only)
        return ModelDeleted.model_validate(value)

    return Call(Request("DELETE", f"/models/{_segment(model)}", _given(weights_only=weights_only or None)), read)


def create_key(
    *,
    owner: str | None = None,
    role: str = "member",
    expires_at: datetime | None = None,
    name: str | None = None,
    endpoints: Sequence[str] | None = None,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    concurrency: int | None = None,
) -> Call[ApiKeyCreated]:
    """Issue an API key, of the caller's owner unless told; the answer is the only place that shows it.

    ``expires_at`` has a time zone; ``endpoints`` are ids or names of those that it is for, None for all of the owner's.
    The limits are for its inference requests; None: no limit.
    """
    expires = None if expires_at is None else expires_at.isoformat()
    listed = None if endpoints is None else list(endpoints)
    body = _given(owner=owner, role=role, expires_at=expires, name=name, endpoints=listed)
    body |= _given(
        requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute, concurrency=concurrency
    )
    return Call(Request("POST", "/keys", json=body), _as(ApiKeyCreated))


def list_keys() -> Call[ApiKeyList]:
    """The keys that were issued, without the keys themselves."""
    return Call(Request("GET", "/keys"), _as(ApiKeyList))


def retrieve_key(key_id: str) -> Call[ApiKey]:
    """One key, without the key itself."""
    return Call(Request("GET", f"/keys/{_segment(key_id)}"), _as(ApiKey))


def update_key(
    key_id: str,
    *,
    requests_per_minute: int | Unset | None = UNSET,
    tokens_per_minute: int | Unset | None = UNSET,
    concurrency: int | Unset | None = UNSET,
) -> Call[ApiKey]:
    """Change the limits that are given, leave the rest; None lifts one."""
    limits = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "concurrency": concurrency,
    }
    body = {name: limit for name, limit in limits.items() if not isinstance(limit, Unset)}
    return Call(Request("PATCH", f"/keys/{_segment(key_id)}", json=body), _as(ApiKey))


def revoke_key(key_id: str) -> Call[None]:
    """Revoke a key by its id."""
    return Call(Request("DELETE", f"/keys/{_segment(key_id)}"), _nothing)


def list_events(*, endpoint: str | None = None, after: int | None = None, limit: int | None = None) -> Call[EventList]:
    """Events of one endpoint (id or name) or of all, oldest first; ``after`` is the sequence of the last one seen."""
    query = _given(
        endpoint=endpoint, after=None if after is None else str(after), limit=None if limit is None else str(limit)
    )
    return Call(Request("GET", "/events", query), _as(EventList))


def whoami() -> Call[Whoami]:
    """Whose key this is."""
    return Call(Request("GET", "/whoami"), _as(Whoami))


def chat_stream(model: str, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> Call[None]:
    """A streamed chat completion; the success is read by ``roost.client.streaming``."""
    body = {
        **options,
        "model": model,
        "messages": [dict(message) for message in messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return Call(Request("POST", "/chat/completions", json=body), _nothing)


def _as(kind: type[B]) -> Callable[[Any], B]:
    return kind.model_validate


def _tail(replica: str | None, tail: int | None) -> dict[str, str]:
    return _given(replica=replica, tail=None if tail is None else str(tail))


def _nothing(value: Any) -> None:
    return None


def _segment(name: str) -> str:
    """A name as one segment of a path: its slashes are no separators."""
    return quote(name, safe="")


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
