"""Which clients there are, what each is offered, and what stands in the way of running one here."""

from __future__ import annotations

import shutil
from typing import Any

from tests.spec import commanded, driven, published

Client = type[driven.Driven] | type[commanded.Commanded]

CLIENTS: tuple[Client, ...] = (
    driven.Together,
    driven.AsyncTogether,
    driven.RawTogether,
    commanded.TogetherCommand,
    driven.Classic,
    driven.AsyncClassic,
    commanded.ClassicCommand,
    driven.TypeScript,
    driven.OpenAI,
    driven.OpenAINode,
    commanded.Curl,
    commanded.RoostCommand,
)

FEATURES: dict[str, str] = {
    "create": "create",
    "create with every field": "create",
    "retrieve": "retrieve",
    "retrieve by name": "retrieve",
    "list": "listed",
    "list with filters": "listed",
    "update": "update",
    "start and stop": "update",
    "delete": "delete",
    "hardware": "hardware",
    "hardware for a model": "hardware",
    "availability zones": "zones",
    "create and wait": "create_wait",
    "start and wait": "start_wait",
    "stop and wait": "stop_wait",
    "models": "models",
    "who am I": "whoami",
    "chat": "chat",
    "chat by name": "chat",
    "chat, streamed": "stream",
    "completions": "complete",
    "embeddings": "embed",
    "embeddings of a chat model, refused": "embed",
    "adapters, refused": "adapters",
    "a wrong key, told": "models",
    "an unknown endpoint, told": "retrieve",
    "unknown hardware, told": "create",
    "an unknown model in a chat, told": "chat",
}
"""What the table has a row for, with the call that a client must have for it."""


def offers(client: Client, feature: str) -> bool:
    """Whether a client has the call that a feature takes."""
    call = FEATURES[feature]
    return hasattr(client, call) and call not in client.not_offered


def obstacle(client: Any) -> str | None:
    """Why a client cannot be run on this machine."""
    if client.package is not None and not published.installed(client.package):
        return f"{client.package.name} {client.package.version} is not installed; make test-spec does it"
    if client.tool is not None and shutil.which(client.tool) is None:
        return f"{client.tool} is missing"
    return None
