"""Models of the catalog on the wire."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from roost.schemas.base import Answer, Body, Listing


class ModelPricing(Answer):
    """Prices as classic clients expect them; on hardware of one's own a token costs nothing."""

    base: float = 0
    finetune: float = 0
    hourly: float = 0
    input: float = 0
    output: float = 0


class Download(Answer):
    """How far the weights are (an extra). ``state``: absent, fetching, ready, failed; ``percent`` is 0 to 100, null
    when the size is unknown; ``error`` and ``error_code`` say why it failed, ``error`` in detail to admins only."""

    state: Literal["absent", "fetching", "ready", "failed"]
    percent: float | None = None
    done_bytes: int = 0
    total_bytes: int | None = None
    error: str | None = None
    error_code: str | None = None
    path: str | None = None
    """The file on the server's machine, once it is there; shown to admins."""


class WeightsSource(Answer):
    """Where a model's weights come from (an extra). ``location`` has no user name, password or query of a URL; that of
    a file or a URL is shown to admins only, and null for others."""

    kind: str
    location: str | None = None
    member: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None


class Model(Answer):
    """A model that endpoints can be deployed from. ``created`` is in seconds since the epoch, 0 for built-in ones."""

    id: str
    object: Literal["model"] = "model"
    created: int
    type: str
    display_name: str
    organization: str
    context_length: int
    license: str = ""
    pricing: ModelPricing = ModelPricing()
    owned_by: str = ""
    alias: str | None = None
    engine: str = ""
    built_in: bool = False
    download: Download | None = None
    source: WeightsSource | None = None
    size_bytes: int | None = None
    slots: int | None = None
    options: dict[str, str] = Field(default_factory=dict, description="Shown to admins; empty for others.")
    url: str | None = Field(default=None, description="Shown to admins.")
    served_model: str | None = Field(default=None, description="Shown to admins.")
    used_by: list[str] = Field(default_factory=list)
    """Names of the endpoints deployed from it that the asker may see."""


class ModelList(Listing[Model]):
    """The catalog, as everybody but the classic SDKs gets it; those get the bare array."""


class ModelDeleted(Answer):
    """The answer to the removal of a catalog entry, or (``deleted`` false) of its weights alone."""

    id: str
    object: Literal["model"] = "model"
    deleted: bool = True
    freed_bytes: int = 0


class ModelSource(Body):
    """Where weights come from; see ``roost.domain.model.Source``."""

    model_config = ConfigDict(extra="forbid")

    kind: str
    location: str = Field(json_schema_extra={"maxLength": 2048})
    member: str | None = Field(default=None, json_schema_extra={"maxLength": 2048})
    sha256: str | None = None
    size_bytes: int | None = None


class ModelFootprint(Body):
    """What decides how much memory a model needs: the bytes of its weights, and those that one token of context takes
    in the engine's key-value cache (null: estimated until the weights' header tells)."""

    model_config = ConfigDict(extra="forbid")

    weights_bytes: int
    kv_bytes_per_token: int | None = None


class ModelCreate(Body):
    """The body of ``POST /models``: a catalog entry. Absent optional fields take the catalog's defaults."""

    model_config = ConfigDict(extra="forbid")

    id: str
    engine: str
    source: ModelSource | None = None
    alias: str | None = None
    type: str = "chat"
    display_name: str | None = None
    organization: str | None = None
    license: str | None = None
    context_length: int = 2048
    slots: int | None = None
    url: str | None = Field(
        default=None,
        description="Base URL of the server, for the engine external.",
        json_schema_extra={"maxLength": 2048},
    )
    served_model: str | None = None
    api_key_env: str | None = Field(default=None, description="Name of the variable with the upstream's key.")
    options: dict[str, str] = Field(default_factory=dict)
    footprint: ModelFootprint | None = None
