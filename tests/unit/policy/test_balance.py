"""Picking the replica with the least in flight."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.policy.balance import least_in_flight

LOADS = st.lists(st.integers(0, 50), min_size=1, max_size=20)


@given(LOADS, st.integers())
def test_the_pick_has_the_least(loads: list[int], turn: int) -> None:
    assert loads[least_in_flight(loads, turn)] == min(loads)


@given(LOADS)
def test_ties_go_round(loads: list[int]) -> None:
    equal = loads.count(min(loads))
    assert len({least_in_flight(loads, turn) for turn in range(equal)}) == equal


def test_nobody_to_pick() -> None:
    with pytest.raises(ValueError, match="empty"):
        least_in_flight([], 0)
