"""What a client that cannot be waited for is told: when to come back."""

from __future__ import annotations

import pytest

from roost.domain.routing import RouteEndpoint
from roost.gateway.admission import DEFAULT_ETA_S, eta, hold_expired


def route(ready_at: float | None = None, retry_after_s: float | None = None, phase: str | None = None) -> RouteEndpoint:
    return RouteEndpoint(
        "endpoint-1", "n", "o", "STARTING", True, "echo", retry_after_s=retry_after_s, ready_at=ready_at, phase=phase
    )


@pytest.mark.parametrize(
    ("ready_at", "learned", "seconds"),
    [
        (112.5, 30.0, 12.5),  # the start under way
        (100.2, 30.0, 1.0),  # all but done
        (80.0, 30.0, 10.0),  # 20 s late: half as long again
        (None, 30.0, 30.0),  # none under way that is known
        (None, None, DEFAULT_ETA_S),
    ],
)
def test_the_time_to_readiness(ready_at: float | None, learned: float | None, seconds: float) -> None:
    assert eta(route(ready_at, learned), 100.0) == pytest.approx(seconds)


def test_the_refusal_says_the_phase_and_when_to_retry() -> None:
    refusal = hold_expired(route(112.0, phase="loading"), 100.0)
    assert (refusal.status, refusal.retry_after, refusal.should_retry) == (503, 12.0, True)
    assert "STARTING, loading" in refusal.message
    assert "STARTING)" in hold_expired(route(), 100.0).message
