"""Identifiers and the names derived from them.

Randomness is an argument everywhere: callers pass a ``uuid.UUID`` (or a source of them), so a seeded run repeats.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from uuid import UUID

UuidSource = Callable[[], UUID]
"""A source of fresh identifiers; ``uuid.uuid4`` in production, a seeded generator in tests."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._/-]+")


def endpoint_id(uuid: UUID) -> str:
    """The public id of an endpoint, ``endpoint-<uuid>``."""
    return f"endpoint-{uuid}"


def endpoint_name(owner: str, model_id: str, uuid: UUID) -> str:
    """The public name of an endpoint, ``<owner>/<model>-<8 hex>``; never reused because the hex digits are random."""
    return f"{owner}/{_UNSAFE.sub('-', model_id)}-{uuid.hex[:8]}"


def replica_id(uuid: UUID) -> str:
    """A replica's id, ``replica-<12 hex>``: the fencing token of one launch, never reused."""
    return f"replica-{uuid.hex[:12]}"


def event_id(uuid: UUID) -> str:
    """An event's id, ``event-<uuid>``."""
    return f"event-{uuid}"


def key_id(uuid: UUID) -> str:
    """An API key's public id, ``key-<8 hex>``; it identifies the key in lists without revealing it."""
    return f"key-{uuid.hex[:8]}"
