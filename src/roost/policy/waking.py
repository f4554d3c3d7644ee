"""When an endpoint that is coming up should be ready, from how long starts of its kind have taken. Pure.

Called by ``policy.routing``: gateways hold requests, and tell clients when to come back, by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from roost.domain.endpoint import Endpoint
from roost.domain.lifecycle import State
from roost.domain.replica import Replica, ReplicaState
from roost.policy.calibration import TOTAL, StartTimes, start_quantile

SHARE = 0.8
"""The estimate is the time within which this share of the latest starts were done."""
UNKNOWN_S = -1.0

Kind = tuple[str, str]
"""What starts depend on: the model and the hardware."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """``phase`` is what the endpoint is at (None: not coming up), ``start_s`` how long a start takes in seconds and
    ``ready_at`` when the one under way should be done, in seconds since the epoch (None: unknown)."""

    phase: str | None = None
    start_s: float | None = None
    ready_at: float | None = None


def learned(endpoints: Sequence[Endpoint]) -> Mapping[Kind, tuple[float, ...]]:
    """How long starts took, in seconds, by model and hardware: of all endpoints together, stopped ones included."""
    found: dict[Kind, tuple[float, ...]] = {}
    for endpoint in endpoints:
        kind = (endpoint.spec.model, endpoint.spec.hardware)
        found[kind] = found.get(kind, ()) + endpoint.status.start_seconds
    return found


def outlook(endpoint: Endpoint, replicas: Sequence[Replica], alike: Mapping[Kind, tuple[float, ...]]) -> Outlook:
    """The outlook of ``endpoint``, which has ``replicas``; ``alike`` is what ``learned`` told. An endpoint that has
    started before is judged by itself."""
    status = endpoint.status
    known = status.start_seconds or alike.get((endpoint.spec.model, endpoint.spec.hardware), ())
    start_s = round(start_quantile(StartTimes({TOTAL: known}), SHARE, UNKNOWN_S), 3) if known else None
    if status.state not in (State.PENDING, State.STARTING, State.STARTED):
        return Outlook(None, start_s)
    phase = status.progress.phase if status.progress is not None else None
    if phase is None and status.reason is not None:
        phase = status.reason.phase
    if start_s is None or phase in ("fetching", "queued"):
        # Nobody knows how long the weights or the hardware take.
        return Outlook(phase, start_s)
    began = [replica.created_at for replica in replicas if replica.state is ReplicaState.LAUNCHING]
    if not began and status.next_attempt_at is not None:
        began = [status.next_attempt_at]
    ready_at = (min(began) + timedelta(seconds=start_s)).timestamp() if began else None
    return Outlook(phase, start_s, ready_at)
