"""The restart policy: quick first, then slower, never above its bound; a stable run clears the record."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roost.wiring.restart import RestartPolicy

policies = st.builds(
    RestartPolicy,
    first_s=st.floats(0.001, 10),
    factor=st.floats(1, 10),
    longest_s=st.floats(10, 1000),
    stable_s=st.floats(1, 1000),
)


def test_the_first_restart_comes_at_once_and_the_next_ones_later() -> None:
    policy = RestartPolicy(first_s=0.1, factor=3, longest_s=30)
    assert [round(policy.delay_s(deaths), 3) for deaths in (1, 2, 3, 4, 5, 6, 7)] == [0.1, 0.3, 0.9, 2.7, 8.1, 24.3, 30]


@given(policy=policies, deaths=st.integers(1, 10**9))
def test_delays_never_fall_and_never_exceed_the_longest(policy: RestartPolicy, deaths: int) -> None:
    assert policy.first_s <= policy.delay_s(deaths) <= policy.delay_s(deaths + 1) <= policy.longest_s


@given(policy=policies, before=st.integers(0, 1000))
def test_a_stable_run_makes_earlier_deaths_forgotten(policy: RestartPolicy, before: int) -> None:
    assert policy.deaths(before, policy.stable_s) == 1
    assert policy.deaths(before, policy.stable_s * 0.99) == before + 1
