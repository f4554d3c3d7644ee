"""The gateway's benchmark: what its figures are held against, and what it says of them."""

from __future__ import annotations

import pytest
from benchmarks.gateway.processes import Cores
from benchmarks.gateway.verdicts import (
    GOAL_MET,
    MISSED,
    MUST_MET,
    UNKNOWN,
    Target,
    goals_met,
    judge,
    number,
    ratio,
    table,
)

REQUEST = Target("request", "CPU", "request", 1e3, "nginx", 1.5, 2.0)
FAILED = Target("streams", "failed answers", "failed", 1, None, 0, 0)
MEMORY = Target("streams", "KB / stream", "stream memory", 1 / 1024, None, 16, 30)


def rounds(*ratios: float) -> list[dict[str, dict[str, float]]]:
    """Rounds on a machine that is slower in each."""
    return [
        {"nginx": {"request": 1e-5 * (index + 1)}, "roost": {"request": 1e-5 * (index + 1) * value}}
        for index, value in enumerate(ratios)
    ]


@pytest.mark.parametrize(("value", "verdict"), [(1.5, GOAL_MET), (1.51, MUST_MET), (2.0, MUST_MET), (2.01, MISSED)])
def test_a_figure_is_held_against_its_goal_and_its_must(value: float, verdict: str) -> None:
    assert judge(REQUEST, [{"nginx": {"request": 1.0}, "roost": {"request": value}}]).verdict == verdict


def test_ratios_are_taken_within_a_round() -> None:
    value = judge(REQUEST, rounds(1.2, 1.8, 1.3)).value
    assert value == pytest.approx((1.3, 1.2, 1.8))


def test_one_failure_in_one_round_is_a_miss() -> None:
    each = [{"roost": {"failed": 0.0}}, {"roost": {"failed": 1.0}}, {"roost": {"failed": 0.0}}]
    assert judge(FAILED, each).verdict == MISSED


def test_without_the_peer_nothing_is_said_of_the_ratio() -> None:
    row = judge(REQUEST, [{"roost": {"request": 1.0}}])
    assert (row.value, row.verdict) == (None, UNKNOWN)


def test_a_claim_of_two_figures_is_met_when_both_are() -> None:
    good = {"roost": {"failed": 0.0, "stream memory": 10 * 1024.0}}
    large = {"roost": {"failed": 0.0, "stream memory": 20 * 1024.0}}
    assert goals_met([judge(target, [good]) for target in (FAILED, MEMORY)]) == (1, 1)
    assert goals_met([judge(target, [large]) for target in (FAILED, MEMORY)]) == (0, 1)
    assert goals_met([judge(target, [{"roost": {"failed": 0.0}}]) for target in (FAILED, MEMORY)]) == (0, 0)


def test_the_table_shows_the_goal_and_the_must_beside_the_figure() -> None:
    last = table([judge(REQUEST, rounds(1.2, 1.8, 1.3))]).splitlines()[-1]
    assert last == "| CPU | 0.02 | 0.036 | ÷ nginx: **1.30** (1.20 .. 1.80) | ≤ 1.50 | ≤ 2.00 | goal met |"


def test_small_ratios_are_shown_as_fractions() -> None:
    assert (ratio(1 / 200), ratio(1.5), number(1234.5), number(0.0123)) == ("1/200", "1.50", "1,234", "0.0123")


def test_proxies_have_a_cpu_of_their_own_where_there_are_two() -> None:
    assert Cores.split({0, 1, 5}) == Cores(frozenset({5}), frozenset({0, 1}))
    assert Cores.split({3}) == Cores(frozenset({3}), frozenset({3}))
