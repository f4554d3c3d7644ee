"""Endpoints on the wire. Field names are the API reference's; what it does not have is marked as an extra."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from roost.schemas.base import Answer, Body, Listing

State = Literal["PENDING", "STARTING", "STARTED", "STOPPING", "STOPPED", "ERROR"]
"""The six states; no other is ever sent."""

DesiredState = Literal["STARTED", "STOPPED"]
"""What may be asked for."""


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

    min_replicas: int | None = Field(default=None, description="0 to max_replicas.")
    max_replicas: int | None = Field(default=None, description="1 to 1000.")


class EndpointCreate(Body):
    """The body of ``POST /endpoints``. Which fields are required is checked by the server, so that each gets its own
    sentence. A null counts as absent, but for ``inactive_timeout``, where it means never."""

    model: str | None = None
    hardware: str | None = None
    autoscaling: AutoscalingBody | None = None
    display_name: str | None = None
    disable_speculative_decoding: bool | None = None
    state: str | None = Field(default=None, description="STARTED or STOPPED; default STARTED.")
    inactive_timeout: int | None = Field(
        default=None, description="Minutes; absent: the server's default; null or 0: never."
    )
    availability_zone: str | None = None
    zone_required: bool | None = None


class EndpointUpdate(Body):
    """The body of ``PATCH /endpoints/{id}``: any subset; what is absent stays."""

    display_name: str = ""
    state: str = Field(default="", description="STARTED or STOPPED.")
    autoscaling: AutoscalingBody = AutoscalingBody()
    inactive_timeout: int | None = None
