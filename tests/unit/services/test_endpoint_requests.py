"""Properties of checked requests."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.domain.endpoint import Autoscaling
from roost.domain.errors import BadRequest
from roost.domain.lifecycle import DesiredState, State
from roost.services.endpoint_requests import (
    MAX_REPLICAS,
    Bounds,
    EndpointChange,
    changed_spec,
    differences,
    display_name_of,
    merged_autoscaling,
    timeout_of,
)
from roost.testing.builders import make_spec

numbers = st.integers(-3, MAX_REPLICAS + 3)
bounds = st.builds(Bounds, st.none() | numbers, st.none() | numbers)


@given(old=st.integers(1, MAX_REPLICAS), asked=bounds)
def test_merged_bounds_make_sense_or_are_refused(old: int, asked: Bounds) -> None:
    before = Autoscaling(old // 2, old)
    low = before.min_replicas if asked.min_replicas is None else asked.min_replicas
    high = before.max_replicas if asked.max_replicas is None else asked.max_replicas
    if 0 <= low <= high and 1 <= high <= MAX_REPLICAS:
        assert merged_autoscaling(before, asked) == Autoscaling(low, high)
    else:
        with pytest.raises(BadRequest) as caught:
            merged_autoscaling(before, asked)
        assert caught.value.param in {"autoscaling.min_replicas", "autoscaling.max_replicas"}


changes = st.builds(
    EndpointChange,
    display_name=st.none() | st.sampled_from(["", "a", "b"]),
    state=st.none() | st.sampled_from(["STARTED", "STOPPED"]),
    autoscaling=st.none() | st.just(Bounds(0, 3)),
    inactive_timeout=st.none() | st.integers(0, 9),
)


@given(change=changes, desired=st.sampled_from(DesiredState), state=st.sampled_from(State))
def test_a_change_that_is_made_twice_is_made_once(change: EndpointChange, desired: DesiredState, state: State) -> None:
    # Not in ERROR, where each STARTED is a new wish until control has taken it up.
    state = State.STOPPED if state is State.ERROR else state
    once = changed_spec(make_spec(desired_state=desired), state, change)

    assert changed_spec(once, state, change) == once


@given(change=changes)
def test_differences_name_what_differs(change: EndpointChange) -> None:
    before = make_spec()
    after = changed_spec(before, State.STARTED, change)

    assert bool(differences(before, after)) == (after != before)


@pytest.mark.parametrize("minutes", [-1, 10_000_001, 1 << 70])
def test_timeouts_out_of_range(minutes: int) -> None:
    with pytest.raises(BadRequest) as caught:
        timeout_of(minutes)
    assert caught.value.param == "inactive_timeout"


def test_the_longest_timeout_is_a_duration() -> None:
    assert timeout_of(10_000_000) == timedelta(minutes=10_000_000)


@given(name=st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=256))
def test_display_names_are_kept_as_they_are(name: str) -> None:
    assert display_name_of(name, "m") == name


@given(
    prefix=st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    bad=st.characters(categories=["Cc", "Cs"]),
)
def test_display_names_hold_no_control_characters(prefix: str, bad: str) -> None:
    with pytest.raises(BadRequest, match="display_name"):
        display_name_of(prefix + bad, "m")


def test_only_starting_anew_counts_as_a_wish() -> None:
    spec = make_spec(start_requests=4)
    start = EndpointChange(state="STARTED")

    assert changed_spec(spec, State.STARTED, start).start_requests == 4
    assert changed_spec(spec, State.ERROR, start).start_requests == 5
    stopped = replace(spec, desired_state=DesiredState.STOPPED)
    assert changed_spec(stopped, State.STOPPING, start).start_requests == 5
