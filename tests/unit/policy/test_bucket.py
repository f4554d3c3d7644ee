"""A budget per minute."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.policy.bucket import MINUTE_S, Bucket

budgets = st.integers(1, 10_000)
pauses = st.lists(st.floats(0.0, 90.0), min_size=1, max_size=200)


def test_a_minutes_budget_may_be_used_at_once_and_comes_back_evenly() -> None:
    bucket = Bucket()
    for _ in range(10):
        assert bucket.wait(10, 100.0) == 0
        bucket.take(10, 1, 100.0)

    assert bucket.wait(10, 100.0) == pytest.approx(6.0)
    assert bucket.wait(10, 103.0) == pytest.approx(3.0)
    assert bucket.wait(10, 106.0) == 0
    assert bucket.level(10, 160.0) == 0


def test_what_exceeds_the_budget_has_to_drain_first() -> None:
    bucket = Bucket()
    bucket.take(60, 180, 0.0)

    assert bucket.wait(60, 0.0) == pytest.approx(121.0)
    assert bucket.wait(60, 121.0) == 0


@given(budgets, pauses)
def test_no_time_lets_more_through_than_a_burst_and_what_drained_in_it(budget: int, pauses: list[float]) -> None:
    bucket, now = Bucket(), 0.0
    let_through: list[float] = []
    for pause in pauses:
        now += pause
        while not bucket.wait(budget, now) and len(let_through) < 3000:
            bucket.take(budget, 1, now)
            let_through.append(now)

    for first in range(0, len(let_through), 7):
        seconds = let_through[-1] - let_through[first]
        assert len(let_through) - first <= budget * (1 + seconds / MINUTE_S) + 0.01


@given(budgets, st.lists(st.tuples(st.floats(0.0, 90.0), st.integers(1, 5000)), max_size=50))
def test_the_wait_that_is_told_is_neither_too_short_nor_too_long(budget: int, takes: list[tuple[float, int]]) -> None:
    bucket, now = Bucket(), 0.0
    for pause, amount in takes:
        now += pause
        bucket.take(budget, amount, now)
    wait = bucket.wait(budget, now)

    assert bucket.wait(budget, now + wait + 1e-6) == 0
    if wait:
        assert bucket.wait(budget, now + wait * 0.99) > 0


@given(budgets, budgets, st.integers(0, 20_000), st.floats(0.0, 200.0))
def test_a_changed_budget_counts_what_was_used_before(before: int, after: int, amount: int, pause: float) -> None:
    bucket = Bucket()
    bucket.take(before, amount, 0.0)

    assert bucket.wait(after, 0.0) == pytest.approx(max(0.0, (amount + 1 - after) * MINUTE_S / after))
    assert bucket.level(after, pause) <= amount


@given(budgets, st.integers(0, 100), st.integers(0, 200))
def test_giving_back_leaves_never_less_than_nothing(budget: int, taken: int, given_back: int) -> None:
    bucket = Bucket()
    bucket.take(budget, taken, 0.0)
    bucket.take(budget, -given_back, 0.0)

    assert bucket.level(budget, 0.0) == max(0, taken - given_back)


@given(budgets, st.lists(st.tuples(st.floats(0.0, 20.0), st.integers(-5, 5000)), max_size=50))
def test_the_quick_answers_are_those_of_the_wait(budget: int, takes: list[tuple[float, int]]) -> None:
    quick, plain, now = Bucket(), Bucket(), 0.0
    for pause, amount in takes:
        now += pause
        fits = not plain.wait(budget, now)
        assert quick.fits(budget, now) is fits
        assert quick.take_if_fits(budget, now) is fits
        if fits:
            plain.take(budget, 1, now)
        quick.take(budget, amount, now)
        plain.take(budget, amount, now)
        assert quick.level(budget, now) == pytest.approx(plain.level(budget, now))
