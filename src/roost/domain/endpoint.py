"""Endpoints: what the user wants (spec), what is (status), each with a version of its own.

Services write specs, control writes statuses; both compare-and-set on the version (ARCHITECTURE.md, rule 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from roost.domain.lifecycle import DesiredState, State
from roost.domain.replica import Failure


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """Bounds on the number of replicas; 0 <= min_replicas <= max_replicas, max_replicas >= 1."""

    min_replicas: int
    max_replicas: int


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """What the user asked for.

    ``inactive_timeout`` None means never stop for inactivity. ``start_requests`` counts the user's wishes to start:
    it rises when STARTED is asked of a stopped or failed endpoint, and lets control forget earlier failures.
    """

    model: str
    hardware: str
    autoscaling: Autoscaling
    display_name: str
    desired_state: DesiredState = DesiredState.STARTED
    inactive_timeout: timedelta | None = timedelta(minutes=60)
    availability_zone: str | None = None
    zone_required: bool = False
    disable_speculative_decoding: bool = False
    start_requests: int = 0


@dataclass(frozen=True, slots=True)
class StateReason:
    """Why an endpoint is in its state: machine-readable ``code``, a sentence, and what to do about it."""

    code: str
    message: str
    hint: str | None = None
    phase: str | None = None
    since: datetime | None = None
    deadline: datetime | None = None
    log_tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """What a coming-up endpoint does: ``phase`` (queued, fetching, loading, warming) and percent (None: unknown)."""

    phase: str
    percent: float | None = None
    done_bytes: int | None = None
    total_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """What is, as control last saw it.

    ``failures`` counts consecutive failed attempts since ``start_requests`` last rose to ``failures_of``;
    ``next_attempt_at`` is when the backoff ends; ``gave_up`` that it will not try again by itself. ``proven`` is True
    once a replica of this endpoint has been ready. ``last_failure`` explains the latest of the ``failures``.
    ``start_seconds`` is how long its latest starts took from the order to ready, the latest last.
    """

    state: State
    reason: StateReason | None = None
    progress: Progress | None = None
    failures: int = 0
    failures_of: int = 0
    next_attempt_at: datetime | None = None
    gave_up: bool = False
    proven: bool = False
    changed_at: datetime | None = None
    last_failure: Failure | None = None
    start_seconds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A deployed model behind a stable id and name."""

    id: str
    name: str
    owner: str
    spec: EndpointSpec
    status: EndpointStatus
    created_at: datetime
    updated_at: datetime
    spec_version: int = 1
    status_version: int = 1
    deleted_at: datetime | None = None
