"""Backoff: no wait after a single failure, then doubling to the cap, spread by the jitter."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from roost.policy.backoff import CAP, SPREAD, delay


def test_the_middle_of_the_spread() -> None:
    assert [delay(n, 0.5).total_seconds() for n in (0, 1, 2, 3, 4, 9)] == [0, 0, 1, 2, 4, 60]


@given(st.integers(2, 10_000), st.floats(0, 1, exclude_max=True))
def test_bounds(failures: int, jitter: float) -> None:
    wait = delay(failures, jitter)
    assert timedelta(seconds=1) * (1 - SPREAD) <= wait <= CAP * (1 + SPREAD)


@given(st.integers(0, 40), st.floats(0, 1, exclude_max=True))
def test_more_failures_never_wait_less(failures: int, jitter: float) -> None:
    assert delay(failures, jitter) <= delay(failures + 1, jitter)
