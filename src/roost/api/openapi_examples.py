"""Examples in the description of the API: those of the API reference where it has one. Data only; read by ``openapi``.

Each is checked against its schema by a test.
"""

from __future__ import annotations

from typing import Any

from roost.web.errors import error_body, type_of

LLAMA = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
H100 = "4x_nvidia_h100_80gb_sxm"


def _failure(status: int, message: str, code: str, param: str | None = None) -> dict[str, Any]:
    return error_body(message, type_of(status), param, code)


CREATE_ENDPOINT = {
    "deploy": {
        "model": LLAMA,
        "hardware": H100,
        "display_name": "My Llama Endpoint",
        "autoscaling": {"min_replicas": 1, "max_replicas": 3},
        "inactive_timeout": 60,
    }
}
UPDATE_ENDPOINT = {
    "scale": {"autoscaling": {"min_replicas": 2, "max_replicas": 5}, "display_name": "Updated Name"},
    "start": {"state": "STARTED"},
    "stop": {"state": "STOPPED"},
}
ENDPOINT = {
    "object": "endpoint",
    "id": "endpoint-abc123",
    "name": "user/meta-llama/Llama-3-8b-a32b82a1",
    "display_name": "My Endpoint",
    "model": LLAMA,
    "hardware": H100,
    "type": "dedicated",
    "owner": "user",
    "state": "STARTED",
    "autoscaling": {"min_replicas": 1, "max_replicas": 3},
    "created_at": "2024-01-15T14:30:00Z",
}
ENDPOINTS = {"object": "list", "data": [ENDPOINT]}
LOGS = {"object": "list", "data": [{"replica_id": "replica-abc123", "line": "listening"}]}
HARDWARE = {
    "object": "list",
    "data": [
        {
            "object": "hardware",
            "id": H100,
            "pricing": {"cents_per_minute": 22.4},
            "specs": {"gpu_type": "h100", "gpu_link": "sxm", "gpu_memory": 80, "gpu_count": 4},
            "availability": {"status": "available"},
            "updated_at": "2024-01-15T14:30:00Z",
        }
    ],
}
ZONES = {"avzones": ["east", "local"]}
MODEL = {
    "id": LLAMA,
    "object": "model",
    "created": 0,
    "type": "chat",
    "display_name": "Llama 3.3 70B Instruct Turbo",
    "organization": "meta-llama",
    "context_length": 131072,
}
MODELS = {"object": "list", "data": [MODEL]}
ADD_MODEL = {
    "remote": {
        "id": "me/remote",
        "engine": "external",
        "url": "http://10.0.0.5:8000/v1",
        "served_model": "llama",
        "slots": 8,
    }
}
KEY = {
    "object": "api_key",
    "id": "key-abc123",
    "owner": "user",
    "role": "member",
    "state": "active",
    "created_at": "2024-01-15T14:30:00Z",
}
KEYS = {"object": "list", "data": [KEY]}
CREATE_KEY = {"member": {"owner": "user", "role": "member"}}
LIMIT_KEY = {"slower": {"requests_per_minute": 60, "concurrency": None}}
LIMITED_KEY = {**KEY, "requests_per_minute": 60}
NEW_KEY = {**KEY, "key": "roost-0123456789abcdef"}
EVENTS: dict[str, Any] = {"object": "list", "data": []}
WHOAMI = {
    "api_key_id": "key-abc123",
    "organization_id": "user",
    "organization_name": "user",
    "project_id": "user",
    "project_name": "user",
    "project_slug": "user",
    "owner": "user",
    "role": "member",
}
CHAT = {
    "hello": {"model": "endpoint-abc123", "messages": [{"role": "user", "content": "Hello!"}]},
    "stream": {"model": "endpoint-abc123", "messages": [{"role": "user", "content": "Hello!"}], "stream": True},
}
CHAT_ANSWER = {
    "id": "chatcmpl-abc123",
    "object": "chat.completion",
    "created": 1705329000,
    "model": "endpoint-abc123",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello! How can I help?"}}
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16},
}
COMPLETION = {"text": {"model": "endpoint-abc123", "prompt": "Once upon a time", "max_tokens": 32}}
EMBEDDINGS = {"text": {"model": "endpoint-abc123", "input": "Hello!"}}
RERANK = {"two": {"model": "endpoint-abc123", "query": "a bird", "documents": ["a hen", "a house"]}}

BAD = _failure(400, "hardware is required.", "missing_field", "hardware")
NO_KEY = _failure(
    401,
    "authentication failed: there is no API key; send the header 'Authorization: Bearer <API key>'.",
    "missing_api_key",
)
DENIED = _failure(403, "This key lacks the permission to add models: an admin's key is needed.", "permission_denied")
MISSING = _failure(404, "The endpoint endpoint-abc123 was not found.", "endpoint_not_found", "id")
CONFLICT = _failure(409, "me/remote is in use by 1 deployment.", "model_in_use")
TOO_LARGE = _failure(413, "The request body exceeds 67108864 bytes.", "payload_too_large")
FULL = _failure(
    429, "endpoint-abc123 is coming up and 1000 requests wait for it already. Try again later.", "hold_queue_full"
)
DEFECT = _failure(
    500, "The server failed unexpectedly; its log says why under the request id req-abc123.", "internal_error"
)
NOT_OFFERED = _failure(501, "LoRA adapters are not offered by this server yet.", "not_implemented")
LOST = _failure(502, "The control plane is restarting: it went away before it answered.", "control_plane_lost")
NOT_READY = _failure(503, "endpoint-abc123 is not ready yet (state STARTING). Try again later.", "not_ready")
