"""What an endpoint's condition means for one who waits."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from roost.cli.wait import SETTLE_S, Outcome, Target, condition, failure_lines, next_wait_step, on_its_way
from roost.schemas import Autoscaling, Endpoint, Progress, State, StateReason


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


def outcome(state: str, target: Target, *, moved: bool = True, waited_s: float = 0.0) -> Outcome:
    return next_wait_step(endpoint(state), target, moved=moved, waited_s=waited_s).outcome


@pytest.mark.parametrize(
    ("target", "ends"),
    [
        ("STARTED", {"STARTED": Outcome.REACHED, "ERROR": Outcome.FAILED, "STOPPED": Outcome.TURNED}),
        (
            "STOPPED",
            {
                "STOPPED": Outcome.REACHED,
                "PENDING": Outcome.TURNED,
                "STARTING": Outcome.TURNED,
                "STARTED": Outcome.TURNED,
            },
        ),
    ],
)
def test_the_table_once_it_has_moved(target: Target, ends: dict[str, Outcome]) -> None:
    for state in get_args(State):
        assert outcome(state, target) is ends.get(state, Outcome.GOES_ON), state


@pytest.mark.parametrize("target", ["STARTED", "STOPPED"])
def test_before_it_has_moved_only_the_target_counts(target: Target) -> None:
    for state in get_args(State):
        expected = Outcome.REACHED if state == target else Outcome.GOES_ON
        assert outcome(state, target, moved=False, waited_s=0.0) is expected, state


def test_an_old_error_is_believed_after_a_while() -> None:
    assert outcome("ERROR", "STARTED", moved=False, waited_s=SETTLE_S - 0.1) is Outcome.GOES_ON
    assert outcome("ERROR", "STARTED", moved=False, waited_s=SETTLE_S) is Outcome.FAILED
    assert outcome("ERROR", "STOPPED", moved=False, waited_s=1000) is Outcome.GOES_ON


def test_what_lies_on_the_way() -> None:
    assert {state for state in get_args(State) if on_its_way(endpoint(state), "STARTED")} == {"PENDING", "STARTING"}
    assert {state for state in get_args(State) if on_its_way(endpoint(state), "STOPPED")} == {"STOPPING"}


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


def test_a_log_gets_a_line_for_each_phase_and_each_tenth() -> None:
    def key(**over: Any) -> str:
        return next_wait_step(endpoint("STARTING", **over), "STARTED", moved=True, waited_s=0).key

    keys = [key(progress=Progress(phase="fetching", percent=float(percent))) for percent in range(0, 100, 2)]
    assert len(set(keys)) == 10
    assert key(progress=Progress(phase="loading")) != key(progress=Progress(phase="warming"))
    assert key(state_reason=StateReason(code="a", message="")) != key(state_reason=StateReason(code="b", message=""))


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
