"""When an endpoint that is coming up should be ready."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from roost.domain.endpoint import Endpoint, Progress, StateReason
from roost.domain.lifecycle import State
from roost.domain.replica import ReplicaState
from roost.policy.waking import Outlook, learned, outlook
from roost.testing.builders import make_endpoint, make_replica, make_status

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
LAUNCHING = make_replica(state=ReplicaState.LAUNCHING, created_at=BEGAN, ready_at=None, address=None)


def coming(*starts: float, phase: str = "loading", state: State = State.STARTING, number: int = 1) -> Endpoint:
    status = make_status(state=state, progress=Progress(phase), start_seconds=starts)
    return replace(make_endpoint(number), status=status)


def test_a_start_under_way_is_done_when_most_of_the_earlier_ones_were() -> None:
    found = outlook(coming(4.0, 6.0, 5.0, 90.0, 5.5), [LAUNCHING], {})
    assert found == Outlook("loading", 6.0, BEGAN.timestamp() + 6.0)


def test_an_endpoint_that_never_started_learns_from_those_of_its_model_and_hardware() -> None:
    other, fresh = coming(8.0, number=2), coming()
    other = replace(other, spec=replace(other.spec, model=fresh.spec.model, hardware=fresh.spec.hardware))
    stranger = coming(99.0, number=3)
    stranger = replace(stranger, spec=replace(stranger.spec, hardware="2x_other"))
    found = outlook(fresh, [LAUNCHING], learned([other, fresh, stranger]))
    assert found == Outlook("loading", 8.0, BEGAN.timestamp() + 8.0)
    assert outlook(fresh, [LAUNCHING], learned([fresh, stranger])) == Outlook("loading", None, None)


@pytest.mark.parametrize("phase", ["fetching", "queued"])
def test_nobody_knows_how_long_weights_and_hardware_take(phase: str) -> None:
    assert outlook(coming(5.0, phase=phase), [LAUNCHING], {}) == Outlook(phase, 5.0, None)


def test_a_backoff_counts_from_its_end() -> None:
    endpoint = coming(5.0)
    endpoint = replace(endpoint, status=replace(endpoint.status, next_attempt_at=BEGAN + timedelta(seconds=10)))
    assert outlook(endpoint, [], {}).ready_at == BEGAN.timestamp() + 15.0


def test_what_serves_and_wakes_tells_its_phase_by_the_reason() -> None:
    status = make_status(
        state=State.STARTED, progress=None, reason=StateReason("loading", "…", None, "loading"), start_seconds=(5.0,)
    )
    found = outlook(replace(make_endpoint(), status=status), [LAUNCHING], {})
    assert found == Outlook("loading", 5.0, BEGAN.timestamp() + 5.0)


def test_what_is_not_coming_up_has_no_phase() -> None:
    assert outlook(coming(5.0, state=State.STOPPED), [], {}) == Outlook(None, 5.0, None)
