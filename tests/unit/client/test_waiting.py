"""What one look at an endpoint means for one who waits."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.client.test_requests import ENDPOINT

from roost.client.errors import (
    ApiError,
    ClientError,
    ConnectionFailed,
    EndpointFailed,
    NotFound,
    RateLimited,
    ServerError,
    WaitFailed,
    WaitTimeout,
)
from roost.client.waiting import (
    PATIENCE_S,
    SETTLE_S,
    UNMOVED_S,
    Done,
    Fail,
    PollAfter,
    Step,
    Target,
    Waiting,
    news_key,
    on_its_way,
    step,
)
from roost.schemas import Endpoint, Progress, State, StateReason

STATES = get_args(State)


def endpoint(state: str, **over: Any) -> Endpoint:
    return Endpoint.model_validate({**ENDPOINT, "state": state, **over})


def outcome(state: str, target: Target, *, moved: bool = True, elapsed_s: float = 0.0) -> Any:
    _, now = step(Waiting(target, moved=moved), endpoint(state), elapsed_s)
    return type(now.error) if isinstance(now, Fail) else type(now)


@pytest.mark.parametrize(
    ("target", "ends"),
    [
        ("STARTED", {"STARTED": Done, "ERROR": EndpointFailed, "STOPPED": WaitFailed}),
        ("STOPPED", {"STOPPED": Done, "PENDING": WaitFailed, "STARTING": WaitFailed, "STARTED": WaitFailed}),
    ],
)
def test_the_table_once_it_has_moved(target: Target, ends: dict[str, Any]) -> None:
    for state in STATES:
        assert outcome(state, target) is ends.get(state, PollAfter), state


@pytest.mark.parametrize("target", ["STARTED", "STOPPED"])
def test_before_it_has_moved_only_the_target_counts(target: Target) -> None:
    for state in STATES:
        if not on_its_way(endpoint(state), target):
            assert outcome(state, target, moved=False) is (Done if state == target else PollAfter), state


def test_an_old_error_is_believed_after_a_while() -> None:
    assert outcome("ERROR", "STARTED", moved=False, elapsed_s=SETTLE_S - 0.1) is PollAfter
    assert outcome("ERROR", "STARTED", moved=False, elapsed_s=SETTLE_S) is EndpointFailed
    assert outcome("ERROR", "STOPPED", moved=False, elapsed_s=1000) is PollAfter


def test_an_endpoint_that_nobody_started_is_not_waited_for_for_ever() -> None:
    assert outcome("STOPPED", "STARTED", moved=False, elapsed_s=UNMOVED_S - 0.1) is PollAfter
    assert outcome("STOPPED", "STARTED", moved=False, elapsed_s=UNMOVED_S) is WaitFailed
    _, now = step(Waiting("STOPPED"), endpoint("STARTED"), UNMOVED_S)
    assert isinstance(now, Fail)
    assert now.error.message == "The endpoint is STARTED and nobody has asked it to stop: do that first."


def test_what_lies_on_the_way() -> None:
    assert {state for state in STATES if on_its_way(endpoint(state), "STARTED")} == {"PENDING", "STARTING"}
    assert {state for state in STATES if on_its_way(endpoint(state), "STOPPED")} == {"STOPPING"}


def test_it_remembers_that_it_has_moved() -> None:
    waiting, _ = step(Waiting("STARTED"), endpoint("STARTING"), 0)
    _, now = step(waiting, endpoint("STOPPED"), 1)
    assert isinstance(now, Fail)
    assert "something else wanted that" in now.error.message


def test_a_failure_has_reason_hint_and_log() -> None:
    reason = {"code": "engine_exited", "message": "The engine ended.", "hint": "Use less.", "log_tail": ["a", "b"]}
    _, now = step(Waiting("STARTED", moved=True), endpoint("ERROR", state_reason=reason), 0)
    assert isinstance(now, Fail)
    error = now.error
    assert isinstance(error, EndpointFailed)
    assert (error.reason, error.code, error.hint) == ("The engine ended.", "engine_exited", "Use less.")
    assert error.log_tail == ("a", "b")
    assert error.endpoint.state == "ERROR"
    assert str(error) == (
        "The endpoint failed. The engine ended.\nHint: Use less.\nLast lines of the engine's log:\n  a\n  b"
    )


def test_a_timeout_names_the_last_state_and_why() -> None:
    reason = StateReason(code="no_capacity", message="No node is free.")
    waiting, now = step(Waiting("STARTED", 10), endpoint("PENDING", state_reason=reason), 9.5)
    assert now == PollAfter(0.5)
    _, now = step(waiting, endpoint("PENDING", state_reason=reason), 10)
    assert isinstance(now, Fail)
    assert isinstance(now.error, WaitTimeout)
    assert now.error.message == "The endpoint is not STARTED after 10 s, it is PENDING: No node is free."
    assert now.error.endpoint.state == "PENDING"


def test_a_timeout_while_the_server_is_away_tells_the_last_sight_else_the_connection() -> None:
    gone = ConnectionFailed("refused")
    _, now = step(Waiting("STARTED", 5), gone, 5)
    assert now == Fail(gone)
    waiting, _ = step(Waiting("STARTED", 5), endpoint("STARTING"), 0)
    _, now = step(waiting, gone, 5)
    assert isinstance(now, Fail)
    assert isinstance(now.error, WaitTimeout)


@pytest.mark.parametrize("error", [ConnectionFailed("x"), ServerError("x", status=502), RateLimited("x", status=429)])
def test_a_server_that_is_away_is_waited_for(error: ClientError) -> None:
    waiting, now = step(Waiting("STARTED"), error, 100)
    assert now == PollAfter(1.0)
    waiting, now = step(waiting, error, 100 + PATIENCE_S - 0.1)
    assert now == PollAfter(1.0)
    _, now = step(waiting, error, 100 + PATIENCE_S)
    assert now == Fail(error)


def test_a_server_that_came_back_has_its_time_anew() -> None:
    gone = ConnectionFailed("x")
    waiting, _ = step(Waiting("STARTED"), gone, 0)
    waiting, now = step(waiting, endpoint("ERROR"), PATIENCE_S - 1)
    assert now == PollAfter(1.0), "the error may be older than the restart"
    waiting, now = step(waiting, gone, PATIENCE_S + 1)
    assert now == PollAfter(1.0)


def test_a_server_that_names_a_time_is_left_alone_for_it() -> None:
    _, now = step(Waiting("STARTED"), ServerError("x", status=503, retry_after=7), 0)
    assert now == PollAfter(7.0)


def test_other_refusals_end_it() -> None:
    gone = NotFound("x", status=404)
    assert step(Waiting("STARTED"), gone, 0)[1] == Fail(gone)


def test_news_are_each_phase_and_each_tenth() -> None:
    def key(**over: Any) -> str:
        return news_key(endpoint("STARTING", **over))

    keys = [key(progress=Progress(phase="fetching", percent=float(percent))) for percent in range(0, 100, 2)]
    assert len(set(keys)) == 10
    assert key(progress=Progress(phase="loading")) != key(progress=Progress(phase="warming"))
    assert key(state_reason=StateReason(code="a", message="")) != key(state_reason=StateReason(code="b", message=""))


SIGHTS = st.one_of(
    st.sampled_from(STATES).map(endpoint),
    st.sampled_from([ConnectionFailed("x"), ServerError("x", status=503, retry_after=5), NotFound("x", status=404)]),
)


@given(
    target=st.sampled_from(["STARTED", "STOPPED"]),
    timeout_s=st.one_of(st.none(), st.floats(0, 1000)),
    sights=st.lists(st.tuples(SIGHTS, st.floats(0, 30)), min_size=1, max_size=30),
)
def test_whatever_is_seen(target: Target, timeout_s: float | None, sights: list[tuple[Any, float]]) -> None:
    waiting, elapsed_s = Waiting(target, timeout_s), 0.0
    now: Step = PollAfter(0)
    for seen, more_s in sights:
        waiting, now = step(waiting, seen, elapsed_s)
        if isinstance(now, Done):
            assert now.endpoint is seen
            assert seen.state == target
            return
        assert getattr(seen, "state", None) != target
        if isinstance(now, Fail):
            assert isinstance(now.error, WaitFailed | ApiError | ConnectionFailed)
            if isinstance(now.error, WaitTimeout):
                assert timeout_s is not None
                assert elapsed_s >= timeout_s
            return
        assert 0 < now.seconds <= PATIENCE_S
        assert timeout_s is None or elapsed_s + now.seconds <= timeout_s + 1e-6, "it looks once more at the end"
        elapsed_s += max(now.seconds, more_s)
