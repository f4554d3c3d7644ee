"""When an unused endpoint rests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.policy.idle import IdleSettings, Rest, Use, rest_of

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ONE = IdleSettings(inactive_timeout=60 * MINUTE, min_replicas=1)
ZERO = IdleSettings(inactive_timeout=60 * MINUTE, min_replicas=0)


@pytest.mark.parametrize(
    ("settings", "idle", "rest", "again_in"),
    [
        (ONE, 59, Rest.NONE, 1),
        (ONE, 60, Rest.STOP, None),
        (ZERO, 9, Rest.NONE, 1),
        (ZERO, 10, Rest.ZERO, 50),
        (ZERO, 60, Rest.STOP, None),
        (IdleSettings(None, 1), 10_000, Rest.NONE, None),
        (IdleSettings(None, 0), 10_000, Rest.ZERO, None),
        (IdleSettings(5 * MINUTE, 0), 7, Rest.STOP, None),
    ],
)
def test_rest_comes_with_time(settings: IdleSettings, idle: int, rest: Rest, again_in: int | None) -> None:
    decision = rest_of(settings, Use(0, 0, T0), T0 + idle * MINUTE)
    assert decision.rest is rest
    assert decision.again_in == (None if again_in is None else again_in * MINUTE)


@given(st.integers(0, 9), st.integers(0, 9), st.integers(-10_000, 10_000))
def test_never_with_requests_in_hand(in_flight: int, held: int, minutes: int) -> None:
    decision = rest_of(ZERO, Use(in_flight, held, T0), T0 + minutes * MINUTE)
    assert decision.rest is Rest.NONE or not (in_flight or held)


@pytest.mark.parametrize("use", [Use(None, 0, T0), Use(0, None, T0)])
def test_never_while_a_gateway_is_silent(use: Use) -> None:
    assert rest_of(ZERO, use, T0 + 10_000 * MINUTE).rest is Rest.NONE


def test_a_clock_that_goes_back_makes_nobody_idle() -> None:
    decision = rest_of(ONE, Use(0, 0, T0), T0 - 90 * MINUTE)
    assert (decision.rest, decision.again_in) == (Rest.NONE, 60 * MINUTE)


@given(st.integers(0, 200))
def test_asking_again_when_told_suffices(idle: int) -> None:
    decision = rest_of(ZERO, Use(0, 0, T0), T0 + idle * MINUTE)
    if decision.again_in is not None:
        later = rest_of(ZERO, Use(0, 0, T0), T0 + idle * MINUTE + decision.again_in)
        assert later.rest is not decision.rest
