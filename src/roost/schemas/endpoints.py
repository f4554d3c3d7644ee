"""Endpoints on the wire. Field names are the API reference's; what it does not have is marked as an extra."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import ConfigDict, Field, JsonValue
from pydantic.config import JsonDict

from roost.schemas.base import Answer, Body, Listing

State = Literal["PENDING", "STARTING", "STARTED", "STOPPING", "STOPPED", "ERROR"]
"""The six states; no other is ever sent."""

DesiredState = Literal["STARTED", "STOPPED"]
"""What may be asked for."""


MAX_REPLICAS = 1000
_STATES: list[JsonValue] = ["STARTED", "STOPPED"]
_NAME: JsonDict = {"maxLength": 256}
_MINUTES: JsonDict = {"minimum": 0, "maximum": 10_000_000}
"""Limits as they are described; the server checks them, so that each gets its own sentence."""


class Autoscaling(Answer):
    """Bounds on the number of replicas."""

    min_replicas: int
    max_replicas: int


class StateReason(Answer):
    """Why an endpoint is in its state (an extra)."""

    code: str
    message: str
    hint: str | None = None
    phase: str | None = None
    since: datetime | None = None
    deadline: datetime | None = None
    log_tail: list[str] = Field(default_factory=list)


class Progress(Answer):
    """What a coming-up endpoint does (an extra); ``percent`` is 0 to 100, null when it cannot be told."""

    phase: str
    percent: float | None = None
    done_bytes: int | None = None
    total_bytes: int | None = None


class Replica(Answer):
    """One replica of an endpoint (an extra). ``since`` is when it became ready, else when it was launched."""

    id: str
    state: str
    node: str
    zone: str
    since: datetime
    reason: str = ""


class Endpoint(Answer):
    """A dedicated endpoint. Everything down to ``created_at`` is in the API reference and never null."""

    object: Literal["endpoint"] = "endpoint"
    id: str
    name: str
    display_name: str
    model: str
    hardware: str
    type: Literal["dedicated"] = "dedicated"
    owner: str
    state: State
    autoscaling: Autoscaling
    created_at: datetime
    updated_at: datetime | None = None
    inactive_timeout: int | None = Field(default=None, description="Minutes without a request; null: never stops.")
    availability_zone: str | None = None
    zone_required: bool = False
    disable_speculative_decoding: bool = False
    state_reason: StateReason | None = None
    progress: Progress | None = None
    replicas: list[Replica] = Field(default_factory=list)


class EndpointList(Listing[Endpoint]):
    """All endpoints that the key may see, newest first."""


class AutoscalingBody(Body):
    """Bounds on the number of replicas; in an update each alone is allowed."""

    min_replicas: int | None = Field(
        default=None, description="0 to max_replicas.", json_schema_extra={"minimum": 0, "maximum": MAX_REPLICAS}
    )
    max_replicas: int | None = Field(
        default=None, description=f"1 to {MAX_REPLICAS}.", json_schema_extra={"minimum": 1, "maximum": MAX_REPLICAS}
    )


class AutoscalingCreate(AutoscalingBody):
    """Bounds on the number of replicas, both of them."""

    model_config = ConfigDict(json_schema_extra={"required": ["min_replicas", "max_replicas"]})


class EndpointCreate(Body):
    """The body of ``POST /endpoints``. Which fields are required is checked by the server, so that each gets its own
    sentence. A null counts as absent, but for ``inactive_timeout``, where it means never."""

    model_config = ConfigDict(json_schema_extra={"required": ["model", "hardware", "autoscaling"]})

    model: str | None = Field(default=None, description="Model to deploy: id or alias.")
    hardware: str | None = Field(default=None, description="Hardware configuration id.")
    autoscaling: AutoscalingCreate | None = None
    display_name: str | None = Field(
        default=None, description="Human-readable name; default: the model's id.", json_schema_extra=_NAME
    )
    disable_speculative_decoding: bool | None = Field(default=None, description="Default false.")
    state: str | None = Field(
        default=None, description="Default STARTED.", json_schema_extra={"enum": [*_STATES, None]}
    )
    inactive_timeout: int | None = Field(
        default=None,
        description="Minutes without a request until it stops; absent: the server's default; null or 0: never.",
        json_schema_extra=_MINUTES,
    )
    availability_zone: str | None = Field(default=None, description="Preferred zone.")
    zone_required: bool | None = Field(default=None, description="Whether no other zone will do (an extra).")


class EndpointUpdate(Body):
    """The body of ``PATCH /endpoints/{id}``: any subset; what is absent stays."""

    display_name: str = Field(default="", description="Empty: the model's id.", json_schema_extra=_NAME)
    state: str = Field(default="", json_schema_extra={"enum": _STATES})
    autoscaling: AutoscalingBody = AutoscalingBody()
    inactive_timeout: int | None = Field(
        default=None,
        description="Minutes without a request until it stops; null or 0: never.",
        json_schema_extra=_MINUTES,
    )
