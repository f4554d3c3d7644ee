"""What the description says of each operation beyond its signature: its id, and which failures it can have.

A table, read by ``openapi``; a test sees to it that no operation is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from roost.api import openapi_examples as examples


@dataclass(frozen=True, slots=True)
class Operation:
    """``id`` names it for generators of clients; ``failures`` are the statuses it can have besides those of every
    operation; ``request`` and ``answer`` are examples by name."""

    id: str
    failures: tuple[int, ...] = ()
    request: dict[str, Any] = field(default_factory=dict)
    answer: Any = None


EVERYWHERE = (401, 500, 502, 503)
"""Every operation needs a key, may find a defect, and is relayed to a process that may be restarting."""
BODY = (400, 413)
"""Every operation with a body."""
INFERENCE = (*BODY, 404, 429)

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("post", "/endpoints"): Operation(
        "create_endpoint", (*BODY, 403, 404), examples.CREATE_ENDPOINT, examples.ENDPOINT
    ),
    ("get", "/endpoints"): Operation("list_endpoints", (400, 403), answer=examples.ENDPOINTS),
    ("get", "/endpoints/{endpoint}"): Operation("retrieve_endpoint", (403, 404), answer=examples.ENDPOINT),
    ("patch", "/endpoints/{endpoint}"): Operation(
        "update_endpoint", (*BODY, 403, 404, 409), examples.UPDATE_ENDPOINT, examples.ENDPOINT
    ),
    ("delete", "/endpoints/{endpoint}"): Operation("delete_endpoint", (403, 404)),
    ("get", "/endpoints/{endpoint}/logs"): Operation("list_endpoint_logs", (400, 403, 404, 429), answer=examples.LOGS),
    ("get", "/endpoints/{endpoint}/adapters"): Operation("list_adapters", (501,)),
    ("post", "/endpoints/{endpoint}/adapters"): Operation("add_adapter", (501,)),
    ("delete", "/endpoints/{endpoint}/adapters"): Operation("remove_adapter", (501,)),
    ("get", "/hardware"): Operation("list_hardware", (403, 404), answer=examples.HARDWARE),
    ("get", "/clusters/availability-zones"): Operation("list_availability_zones", (403,), answer=examples.ZONES),
    ("get", "/models"): Operation("list_models", (400,), answer=examples.MODELS),
    ("post", "/models"): Operation("add_model", (*BODY, 403, 409), examples.ADD_MODEL, examples.MODEL),
    ("get", "/models/{model}"): Operation("retrieve_model", (404,), answer=examples.MODEL),
    ("delete", "/models/{model}"): Operation("remove_model", (400, 403, 404, 409)),
    ("post", "/models/{model}/pull"): Operation("pull_model", (400, 403, 404), answer=examples.MODEL),
    ("get", "/keys"): Operation("list_keys", (403,), answer=examples.KEYS),
    ("post", "/keys"): Operation("create_key", (*BODY, 403), examples.CREATE_KEY, examples.NEW_KEY),
    ("get", "/keys/{key_id}"): Operation("get_key", (403, 404), answer=examples.KEY),
    ("patch", "/keys/{key_id}"): Operation("update_key", (*BODY, 403, 404), examples.LIMIT_KEY, examples.LIMITED_KEY),
    ("delete", "/keys/{key_id}"): Operation("revoke_key", (400, 403, 404)),
    ("get", "/events"): Operation("list_events", (400, 403, 404), answer=examples.EVENTS),
    ("get", "/whoami"): Operation("whoami", answer=examples.WHOAMI),
    ("get", "/v3/whoami"): Operation("whoami_v3"),
    ("post", "/chat/completions"): Operation("create_chat_completion", INFERENCE, examples.CHAT, examples.CHAT_ANSWER),
    ("post", "/completions"): Operation("create_completion", INFERENCE, examples.COMPLETION),
    ("post", "/embeddings"): Operation("create_embeddings", INFERENCE, examples.EMBEDDINGS),
    ("post", "/rerank"): Operation("rerank", INFERENCE, examples.RERANK),
    ("get", "/metrics"): Operation("metrics", (401,)),
    ("get", "/healthz"): Operation("health"),
    ("get", "/readyz"): Operation("readiness"),
    ("get", "/openapi.json"): Operation("describe"),
}

FAILURES: dict[int, tuple[str, str, dict[str, Any]]] = {
    400: ("BadRequest", "The request is wrong: `param` names the field. It will not succeed again.", examples.BAD),
    401: (
        "AuthenticationFailed",
        "`code` is `missing_api_key`, `unknown_api_key` (also for a revoked one) or `expired_api_key`.",
        examples.NO_KEY,
    ),
    403: ("PermissionDenied", "The key is good, and may not do this.", examples.DENIED),
    404: ("NotFound", "There is no such thing, or it is not for this key to see.", examples.MISSING),
    409: ("Conflict", "What is there already forbids it.", examples.CONFLICT),
    413: ("PayloadTooLarge", "The body is larger than `max_body_bytes` (64 MiB).", examples.TOO_LARGE),
    429: (
        "TooManyRequests",
        "Too many wait for this deployment, too many streams are open, or a limit of the key is used up: "
        "`retry-after` says how long.",
        examples.FULL,
    ),
    500: ("InternalError", "A defect; the server's log has more under the `x-request-id`.", examples.DEFECT),
    501: ("NotImplemented", "Not offered by this server.", examples.NOT_OFFERED),
    502: ("BadGateway", "The control plane or the engine went away before it answered.", examples.LOST),
    503: ("Unavailable", "Not now: the control plane restarts, or the deployment comes up.", examples.NOT_READY),
}
"""Name, description and example of each failure."""

RETRIED = (429, 502, 503)
"""Failures that carry ``retry-after``, where a time is known."""

PARAMETERS = {
    "endpoint": "Id or name of an endpoint, percent-encoded.",
    "model": "Id or alias of a model.",
    "key_id": "Id of a key.",
    "type": "Only endpoints of this type; there are only dedicated ones.",
    "usage_type": "Only endpoints of this usage type; all are on-demand.",
    "mine": "Only endpoints of the key's owner.",
    "dedicated": "Only models that can be deployed: all of them.",
}
"""Descriptions of parameters that have none in the code."""

TAGS = {
    "endpoints": "Dedicated endpoints: one model, on hardware reserved for it.",
    "inference": "Answered by an endpoint's replicas; `model` is the endpoint's id or name.",
    "hardware": "What endpoints can run on, and where.",
    "models": "The catalog of models and their weights.",
    "keys": "API keys.",
    "events": "Who did what, and why.",
    "identity": "Whose key this is.",
    "operations": "For those who run the server.",
}
