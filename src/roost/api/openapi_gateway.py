"""The part of the description that is the gateway's: inference, and its own pages. Data only; read by ``openapi``."""

from __future__ import annotations

from typing import Any

from roost.schemas import inference

KINDS = (
    inference.ChatRequest,
    inference.CompletionRequest,
    inference.EmbeddingRequest,
    inference.RerankRequest,
    inference.ChatCompletion,
    inference.Completion,
    inference.Embeddings,
    inference.Ranking,
    inference.Readiness,
)
"""What the paths below refer to."""


def _json(kind: type) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}}


def _inference(about: str, body: type, answer: type, *, streams: bool = False) -> dict[str, Any]:
    content, told = _json(answer), "The engine's answer."
    if streams:
        content["text/event-stream"] = {}
        told += " With `stream`, unnamed events whose data are chunks, then `data: [DONE]`."
    return {
        "post": {
            "tags": ["inference"],
            "description": about,
            "body": body.__name__,
            "responses": {"200": {"description": told, "content": content}},
        }
    }


def _page(about: str, responses: dict[str, Any]) -> dict[str, Any]:
    """A page for everybody, at the root."""
    page = {"tags": ["operations"], "description": about, "security": [], "responses": responses}
    return {"servers": [{"url": "/"}], "get": page}


_HELD = (
    "A request to a deployment that comes up is held for up to 90 % of the time that its client announces in "
    "`x-stainless-read-timeout` (seconds); to one that is stopped or has failed it is refused."
)
_STATUS = {"type": "object", "required": ["status"], "properties": {"status": {"const": "ok"}}}

PATHS: dict[str, Any] = {
    "/chat/completions": _inference(
        f"Answer a conversation. {_HELD}", inference.ChatRequest, inference.ChatCompletion, streams=True
    ),
    "/completions": _inference(
        f"Go on with a text. {_HELD}", inference.CompletionRequest, inference.Completion, streams=True
    ),
    "/embeddings": _inference(
        f"Turn texts into vectors, where the model does. {_HELD}", inference.EmbeddingRequest, inference.Embeddings
    ),
    "/rerank": _inference(
        f"Order documents by relevance, where the model does. {_HELD}", inference.RerankRequest, inference.Ranking
    ),
    "/healthz": _page(
        "200 as long as the gateway lives.",
        {"200": {"description": "It lives.", "content": {"application/json": {"schema": _STATUS}}}},
    ),
    "/readyz": _page(
        "Whether the gateway serves.",
        {
            "200": {"description": "It serves.", "content": _json(inference.Readiness)},
            "503": {"description": "It does not, and why.", "content": _json(inference.Readiness)},
        },
    ),
    "/metrics": _page(
        "Metrics of all gateway workers and, with a key, of the control plane, in the Prometheus text format; by "
        "endpoint with an admin's key only.",
        {"200": {"description": "Metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
    ),
    "/openapi.json": {
        "get": {
            "tags": ["operations"],
            "description": "This document.",
            "security": [],
            "responses": {
                "200": {"description": "It.", "content": {"application/json": {"schema": {"type": "object"}}}}
            },
        }
    },
}
