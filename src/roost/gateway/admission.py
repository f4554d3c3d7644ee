"""Admission: who calls, which endpoint is meant, whether it takes requests. Pure: tables in, decision out.

Called by ``front`` (who) and ``exchange`` (where). It must never reveal that another owner's endpoint exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roost.domain.key import digest_of, reaches
from roost.domain.routing import RouteEndpoint, RouteKey
from roost.gateway.answers import Refusal

_SEND = "Send your API key as `Authorization: Bearer <key>`."
NO_KEY = Refusal(401, f"No API key was given for authentication. {_SEND}", "missing_api_key")
UNKNOWN_KEY = Refusal(401, "The authentication failed: this API key is unknown or was revoked.", "unknown_api_key")
EXPIRED_KEY = Refusal(401, "The authentication failed: this API key has expired.", "expired_api_key")
NO_MODEL = Refusal(
    400, "model is required: the id or the name of a deployment, as a string.", "missing_field", param="model"
)
SHUTTING_DOWN = Refusal(
    503,
    "The server is shutting down; try again when it is back.",
    "shutting_down",
    retry_after=5.0,
    should_retry=True,
)
DEFAULT_ETA_S = 60.0
"""Assumed time to readiness when none is known."""
LEAST_ETA_S = 1.0
OVERDUE_SHARE = 0.5
"""A start that is late is expected to take this share of its lateness longer."""


def token_of(authorization: bytes | None) -> str | None:
    """The bearer token in an ``Authorization`` header, None when there is none."""
    if authorization is None:
        return None
    scheme, _, token = authorization.partition(b" ")
    token = token.strip()
    if scheme.lower() != b"bearer" or not token:
        return None
    return token.decode("utf-8", "surrogateescape")


def authenticate(authorization: bytes | None, keys: Mapping[str, RouteKey]) -> RouteKey | Refusal:
    """The key that the header carries. ``keys`` are by digest; expiry is checked by ``expired``."""
    token = token_of(authorization)
    if token is None:
        return NO_KEY
    return keys.get(digest_of(token)) or UNKNOWN_KEY


def expired(key: RouteKey, now: float) -> bool:
    """Whether the key is past its time at ``now`` (seconds since the epoch)."""
    return key.expires_at is not None and now >= key.expires_at


def may_use(key: RouteKey, endpoint: RouteEndpoint) -> bool:
    """Whether the key's holder may know of ``endpoint``."""
    return reaches(key.role, key.owner, key.endpoints, endpoint_id=endpoint.id, endpoint_owner=endpoint.owner)


def unknown_model(model: str) -> Refusal:
    """The answer for a model that is not there, or not the caller's to see."""
    shown = model if len(model) <= 200 else model[:200] + "…"
    shown = shown.encode("utf-8", "replace").decode("utf-8")
    message = f"The model `{shown}` does not exist or you do not have access to it."
    return Refusal(404, message, "model_not_found", param="model")


def unknown_adapter(model: str) -> Refusal:
    """The answer for ``<deployment>:<adapter>`` where the deployment is there: adapters cannot be loaded."""
    name, _, adapter = model.rpartition(":")
    shown = adapter[:200].encode("utf-8", "replace").decode("utf-8")
    message = f"`{name}` has no adapter `{shown}`: adapters are not supported yet. Name the deployment alone."
    return Refusal(400, message, "adapters_unsupported", param="model", should_retry=False)


def model_of(body: Mapping[str, Any]) -> str | Refusal:
    """The ``model`` field."""
    model = body.get("model")
    return model if isinstance(model, str) and model else NO_MODEL


def not_accepting(endpoint: RouteEndpoint) -> Refusal:
    """The answer for an endpoint that is stopped or has failed; it names the command that starts it."""
    start = f"Start it with `roost endpoints start {endpoint.id}`."
    if endpoint.state == "ERROR":
        why = f" ({endpoint.message.rstrip('.')})" if endpoint.message else ""
        message = f"{endpoint.id} has failed{why}. {start}"
        return Refusal(400, message, "endpoint_failed", param="model", should_retry=False)
    word = "is stopping" if endpoint.state == "STOPPING" else "is stopped"
    return Refusal(400, f"{endpoint.id} {word}. {start}", "endpoint_stopped", param="model", should_retry=False)


def hold_seconds(announced: float | None, default: float) -> float:
    """How long a request may wait for readiness: 90 % of what the client announced, else the default."""
    return announced * 0.9 if announced is not None else default


def hold_is_full(endpoint: RouteEndpoint, limit: int, now: float) -> Refusal:
    """The answer at ``now`` (seconds since the epoch) when ``limit`` requests wait already."""
    message = f"{endpoint.id} is coming up and {limit} requests wait for it already. Try again later."
    return Refusal(429, message, "hold_queue_full", retry_after=eta(endpoint, now))


def queue_is_full(endpoint: RouteEndpoint, limit: int, seconds: float) -> Refusal:
    """The answer when ``limit`` requests wait already, though replicas are at work: the queue drains in ``seconds``."""
    message = f"{endpoint.id} is busy and {limit} requests wait for it already. Try again later."
    return Refusal(429, message, "hold_queue_full", retry_after=seconds, should_retry=True)


def busy(endpoint: RouteEndpoint, seconds: float) -> Refusal:
    """The answer when a request's time is over and no replica had a slot for it: the queue drains in ``seconds``."""
    message = f"{endpoint.id} is busy: every replica works on as many requests as it takes at once. Try again later."
    return Refusal(429, message, "busy", retry_after=seconds, should_retry=True)


def hold_expired(endpoint: RouteEndpoint, now: float) -> Refusal:
    """The answer when a held request's time is over at ``now`` (seconds since the epoch)."""
    phase = f", {endpoint.phase}" if endpoint.phase is not None else ""
    message = f"{endpoint.id} is not ready yet (state {endpoint.state}{phase}). Try again later."
    return Refusal(503, message, "not_ready", retry_after=eta(endpoint, now), should_retry=True)


def eta(endpoint: RouteEndpoint, now: float) -> float:
    """Seconds from ``now`` (since the epoch) to readiness: of the start under way, else as learned, else assumed."""
    if endpoint.ready_at is not None:
        left = endpoint.ready_at - now
        return max(left if left > 0 else -left * OVERDUE_SHARE, LEAST_ETA_S)
    return endpoint.retry_after_s if endpoint.retry_after_s is not None else DEFAULT_ETA_S
