"""When nobody uses an endpoint: whether it shall stop, or go to zero replicas and stay started. Pure.

Called by the control loop, which alone carries it out (``policy.autoscale`` never decides on zero). Requests in flight
and held are use, and so is the user's wish to start; a replica that is starting is not: only somebody who waits for it
keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Rest(StrEnum):
    """What is to be done about an unused endpoint: nothing, no replicas until the next request, or a stop."""

    NONE = "none"
    ZERO = "zero"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class IdleSettings:
    """``inactive_timeout`` None: never stop. ``scale_to_zero_after`` counts only where ``min_replicas`` is 0."""

    inactive_timeout: timedelta | None
    min_replicas: int
    scale_to_zero_after: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Use:
    """``in_flight`` and ``held`` requests now (None: not every gateway has told), and when the endpoint was last
    used: a request arrived or ended, or the user asked for a start."""

    in_flight: int | None
    held: int | None
    last_used_at: datetime


@dataclass(frozen=True, slots=True)
class IdleDecision:
    """What to do, why, and when to ask again at the latest (None: on news only)."""

    rest: Rest
    reason: str
    again_in: timedelta | None = None


def rest_of(settings: IdleSettings, use: Use, now: datetime) -> IdleDecision:
    """What is to be done at ``now``. A clock that has gone back makes nobody idle."""
    if use.in_flight is None or use.held is None:
        return IdleDecision(Rest.NONE, "not every gateway has told what it has in hand")
    if use.in_flight or use.held:
        return IdleDecision(Rest.NONE, f"{use.in_flight} requests in flight, {use.held} held")
    idle = max(now - use.last_used_at, timedelta(0))
    timeout = settings.inactive_timeout
    if timeout is not None and idle >= timeout:
        return IdleDecision(Rest.STOP, f"not used for {_shown(idle)}; inactive_timeout is {_shown(timeout)}")
    zero_after = settings.scale_to_zero_after if settings.min_replicas == 0 else None
    if zero_after is not None and idle >= zero_after:
        left = None if timeout is None else timeout - idle
        return IdleDecision(Rest.ZERO, f"not used for {_shown(idle)}; no replicas until the next request", left)
    limits = [limit - idle for limit in (timeout, zero_after) if limit is not None]
    return IdleDecision(Rest.NONE, f"used {_shown(idle)} ago", min(limits, default=None))


def _shown(time: timedelta) -> str:
    seconds = time.total_seconds()
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
