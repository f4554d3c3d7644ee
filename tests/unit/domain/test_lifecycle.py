"""Every row of the decision table, and the graph of legal transitions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.domain.lifecycle import TRANSITIONS, DesiredState, State, Summary, derive_state, next_state

STARTED, STOPPED = DesiredState.STARTED, DesiredState.STOPPED

ROWS = [
    ("1 stopping while ready", Summary(STOPPED, State.STARTED, ready=1), State.STOPPING),
    ("1 stopping while launching", Summary(STOPPED, State.STARTING, launching=1), State.STOPPING),
    ("1 stopping while leaving", Summary(STOPPED, State.STOPPING, leaving=1), State.STOPPING),
    ("2 stopped", Summary(STOPPED, State.STOPPING), State.STOPPED),
    ("3 serving", Summary(STARTED, State.STARTING, ready=1), State.STARTED),
    ("3 serving although others failed", Summary(STARTED, State.STARTED, ready=1, gave_up=True), State.STARTED),
    ("3 un-drained", Summary(STARTED, State.STOPPING, ready=1, leaving=1), State.STARTED),
    ("4 the stop runs to its end", Summary(STARTED, State.STOPPING, leaving=1), State.STOPPING),
    ("5 gave up", Summary(STARTED, State.STARTING, gave_up=True), State.ERROR),
    ("5 gave up, killing the last", Summary(STARTED, State.STARTING, leaving=1, gave_up=True), State.ERROR),
    ("6 launching", Summary(STARTED, State.PENDING, launching=1), State.STARTING),
    ("6 a hung launch is being killed", Summary(STARTED, State.STARTING, launching=1, leaving=1), State.STARTING),
    ("7 scaled to zero", Summary(STARTED, State.STARTED, scaled_to_zero=True), State.STARTED),
    ("8 no room", Summary(STARTED, State.STARTING, room=False, coming=True), State.PENDING),
    ("9 fetching or backing off", Summary(STARTED, State.PENDING, coming=True), State.STARTING),
    ("10 nothing ordered yet", Summary(STARTED, State.STOPPED), State.PENDING),
]


@pytest.mark.parametrize(("summary", "state"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_each_row_of_the_table(summary: Summary, state: State) -> None:
    assert derive_state(summary) is state


@pytest.mark.parametrize("current", list(State))
@pytest.mark.parametrize("target", list(State))
def test_every_state_is_reached_by_legal_steps(current: State, target: State) -> None:
    steps = [current]
    while steps[-1] is not target:
        step = next_state(steps[-1], target)
        assert step in TRANSITIONS[steps[-1]]
        steps.append(step)
        assert len(steps) <= len(State)


def test_a_stop_always_passes_through_stopping() -> None:
    for current in (State.PENDING, State.STARTING, State.STARTED, State.ERROR):
        assert next_state(current, State.STOPPED) is State.STOPPING


summaries = st.builds(
    Summary,
    desired=st.sampled_from(DesiredState),
    current=st.sampled_from(State),
    ready=st.integers(0, 3),
    launching=st.integers(0, 3),
    leaving=st.integers(0, 3),
    coming=st.booleans(),
    room=st.booleans(),
    gave_up=st.booleans(),
    scaled_to_zero=st.booleans(),
)


@given(summaries)
def test_the_table_is_total_and_never_claims_to_serve_without_a_reason(summary: Summary) -> None:
    state = derive_state(summary)
    if state is State.STARTED:
        assert summary.ready or summary.scaled_to_zero
        assert summary.desired is DesiredState.STARTED
    if state is State.STOPPED:
        assert summary.ready + summary.launching + summary.leaving == 0
