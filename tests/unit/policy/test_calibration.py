"""Prices and start times learned from what engines do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.policy.calibration import (
    NEAR,
    PRIOR,
    Calibration,
    Costs,
    StartTimes,
    Work,
    learn_start,
    refine,
    start_quantile,
)

FACTORS = st.floats(0.4, 2.5)


def mixed(costs: Costs, seconds: int) -> list[Work]:
    """What a replica does at the given prices: its load changes every five seconds."""
    done = []
    for second in range(seconds):
        prefill_s, running = 0.1 + 0.2 * (second // 5 % 4), 1 + 3 * (second // 5 % 5)
        iterations = (1 - prefill_s) / (costs.iteration_s + running * costs.output_s_per_token)
        done.append(Work(1.0, prefill_s / costs.prefill_s_per_token, iterations, iterations * running))
    return done


@settings(max_examples=30)
@given(FACTORS, FACTORS, FACTORS)
def test_the_prices_are_found_from_a_prior_that_is_wrong(prefill: float, iteration: float, output: float) -> None:
    truth = Costs(PRIOR.prefill_s_per_token * prefill, PRIOR.iteration_s * iteration, PRIOR.output_s_per_token * output)
    calibration = Calibration()
    for work in mixed(truth, 2000):
        calibration = refine(calibration, work)
    found = calibration.costs
    assert found.request_s(1000, 200, 8) == pytest.approx(truth.request_s(1000, 200, 8), rel=0.1)


def test_little_work_leaves_the_prior() -> None:
    assert refine(Calibration(), Work(0.5, 10, 5, 5)).costs == PRIOR


@given(st.lists(st.builds(Work, *[st.floats(0, 1e7)] * 4), max_size=50))
def test_prices_stay_within_reach_of_the_prior(done: list[Work]) -> None:
    calibration = Calibration()
    for work in done:
        calibration = refine(calibration, work)
    factor = calibration.costs.prefill_s_per_token / PRIOR.prefill_s_per_token
    assert NEAR[0] * 0.999 <= factor <= NEAR[1] * 1.001


def test_a_probe_is_where_it_begins() -> None:
    costs = Costs(0.001, 0.01, 0.0)
    assert Calibration.probed(costs).costs == costs


def test_start_times_are_known_by_phase_and_the_latest_count() -> None:
    times = StartTimes()
    for seconds in range(100):
        times = learn_start(times, float(seconds))
    times = learn_start(times, 3.0, "loading")
    assert start_quantile(times, 0.5, 30.0) == 89.0
    assert start_quantile(times, 0.95, 30.0) == 98.0
    assert start_quantile(times, 0.95, 30.0, "loading") == 3.0
    assert start_quantile(times, 0.95, 30.0, "fetching") == 30.0
