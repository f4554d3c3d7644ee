"""What a command tells of an endpoint that somebody waits for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from roost.cli.wait import condition, failure_lines
from roost.schemas import Autoscaling, Endpoint, Progress, StateReason


def endpoint(state: str, **over: Any) -> Endpoint:
    values: dict[str, Any] = {
        "id": "endpoint-1",
        "name": "o/m-1",
        "display_name": "m",
        "model": "m",
        "hardware": "1x_cpu",
        "owner": "o",
        "state": state,
        "autoscaling": Autoscaling(min_replicas=1, max_replicas=1),
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return Endpoint(**{**values, **over})


@pytest.mark.parametrize(
    ("over", "line"),
    [
        ({}, "STARTING"),
        ({"progress": Progress(phase="loading")}, "STARTING · loading"),
        ({"progress": Progress(phase="fetching", percent=12.0)}, "STARTING · fetching 12 %"),
        (
            {"progress": Progress(phase="fetching", percent=50.0, done_bytes=500, total_bytes=1000)},
            "STARTING · fetching 50 % (500 B of 1.0 kB)",
        ),
        (
            {
                "progress": Progress(phase="queued"),
                "state_reason": StateReason(code="x", message="Soon."),
            },
            "STARTING · queued · Soon.",
        ),
    ],
)
def test_the_line_tells_phase_amount_and_reason(over: dict[str, Any], line: str) -> None:
    assert condition(endpoint("STARTING", **over)) == line


def test_a_failure_brings_hint_and_log() -> None:
    reason = StateReason(code="x", message="Why.", hint="Do.", log_tail=["one", "two"])
    assert failure_lines(endpoint("ERROR", state_reason=reason)) == (
        "Hint: Do.",
        "Last lines of the engine's log:",
        "  one",
        "  two",
    )
    assert failure_lines(endpoint("ERROR")) == ()
    assert failure_lines(endpoint("ERROR", state_reason=StateReason(code="x", message="Why."))) == ()
