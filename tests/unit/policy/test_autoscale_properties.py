"""What holds of the autoscaling policy whatever happens: runs of random observations, looked at from all sides."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import hypothesis
from hypothesis import given
from hypothesis import strategies as st

from roost.policy.autoscale import decide, orders
from roost.policy.autoscale_state import Decision, Observation, Recorded, Settings, State, Totals
from roost.policy.calibration import Work

SETTINGS = Settings(min_replicas=1, max_replicas=12, slots=8)
Value = TypeVar("Value", bound=Recorded)
T0 = 1_700_000_000.0


@dataclass(frozen=True)
class Tick:
    """What happens in a second: arrivals with their tokens, and what stands at its end."""

    requests: int
    prompt_tokens: int
    finished: int
    output_tokens: int
    in_time: int
    busy_s: float
    in_flight: int
    held: int
    waiting: int | None
    ready: int
    starting: tuple[float, ...]
    started: tuple[float, ...]
    told: bool


TICKS = st.builds(
    Tick,
    requests=st.integers(0, 40),
    prompt_tokens=st.integers(0, 4000),
    finished=st.integers(0, 40),
    output_tokens=st.integers(1, 500),
    in_time=st.integers(0, 40),
    busy_s=st.floats(0, 12),
    in_flight=st.integers(0, 96),
    held=st.just(0) | st.integers(0, 50),
    waiting=st.none() | st.integers(0, 60_000),
    ready=st.integers(0, 12),
    starting=st.lists(st.floats(0, 100), max_size=3).map(tuple),
    started=st.lists(st.floats(0.5, 90), max_size=2).map(tuple),
    told=st.just(True) | st.booleans(),
)
RUNS = st.lists(TICKS, min_size=1, max_size=30)


def observed(ticks: Sequence[Tick]) -> list[Observation]:
    """The observations of a run."""
    totals, seen = Totals(), []
    for tick in ticks:
        work = totals.work
        totals = Totals(
            requests=totals.requests + tick.requests,
            prompt_tokens=totals.prompt_tokens + tick.requests * tick.prompt_tokens,
            finished=totals.finished + tick.finished,
            finished_output_tokens=totals.finished_output_tokens + tick.finished * tick.output_tokens,
            first_tokens=totals.first_tokens + tick.finished,
            first_tokens_in_time=totals.first_tokens_in_time + min(tick.in_time, tick.finished),
            work=Work(
                work.busy_s + tick.busy_s,
                work.prompt_tokens + tick.requests * tick.prompt_tokens,
                work.iterations + tick.busy_s * 30,
                work.output_tokens + tick.finished * tick.output_tokens,
            ),
        )
        seen.append(
            Observation(
                totals=totals if tick.told else None,
                ready=tick.ready,
                starting=tick.starting,
                in_flight=tick.in_flight,
                held=tick.held,
                unserved=None if tick.waiting is None else tick.in_flight + tick.held,
                unserved_prompt_tokens=tick.waiting,
                started=tick.started,
            )
        )
    return seen


def played(
    seen: Sequence[Observation], settings: Settings = SETTINGS, begin: float = T0, state: State | None = None
) -> tuple[State, list[Decision]]:
    """The run, an observation a second."""
    state, decisions = state or State(), []
    for second, observation in enumerate(seen):
        state, decision = decide(settings, state, observation, begin + second)
        decisions.append(decision)
    return state, decisions


def told(value: Value) -> Value:
    """The value after a turn through JSON."""
    return type(value).from_dict(json.loads(json.dumps(value.to_dict())))


def counted_on(state: State, observation: Observation) -> int:
    """Replicas that are ready, and starts that are not overdue: those that no number of orders would replace."""
    asked = orders(state, observation, 1000, 10_000)
    return 1000 - asked.undrain - asked.start


@given(RUNS, st.integers(0, 12), st.integers(1, 12))
def test_always_within_the_bounds_and_never_zero(ticks: list[Tick], least: int, most: int) -> None:
    settings = replace(SETTINGS, min_replicas=min(least, most), max_replicas=most)
    _, decisions = played(observed(ticks), settings)
    assert all(max(1, settings.min_replicas) <= each.desired <= most for each in decisions)


@given(
    RUNS, TICKS, st.integers(0, 30), st.integers(0, 4000), st.integers(0, 30), st.integers(0, 30), st.integers(0, 9000)
)
def test_more_load_never_asks_for_fewer(
    ticks: list[Tick], last: Tick, requests: int, tokens: int, in_flight: int, held: int, waiting: int
) -> None:
    *before, less = observed([*ticks, replace(last, told=True, waiting=last.waiting or 0)])
    state, _ = played(before)
    assert less.totals is not None
    assert less.unserved is not None
    assert less.unserved_prompt_tokens is not None
    totals = replace(
        less.totals,
        requests=less.totals.requests + requests,
        prompt_tokens=less.totals.prompt_tokens + requests * tokens,
    )
    more = replace(
        less,
        totals=totals,
        in_flight=less.in_flight + in_flight,
        held=less.held + held,
        unserved=less.unserved + in_flight + held,
        unserved_prompt_tokens=less.unserved_prompt_tokens + waiting,
    )
    now = T0 + len(before)
    assert decide(SETTINGS, state, more, now)[1].desired >= decide(SETTINGS, state, less, now)[1].desired


@given(RUNS)
def test_never_down_while_requests_are_held_or_replicas_start(ticks: list[Tick]) -> None:
    state = State()
    for second, observation in enumerate(observed([replace(tick, told=True) for tick in ticks])):
        state, decision = decide(SETTINGS, state, observation, T0 + second)
        there = counted_on(state, observation)
        if observation.held or there > observation.ready:
            assert decision.desired >= min(there, SETTINGS.max_replicas)


@given(RUNS, st.integers(-1_000_000, 1_000_000))
def test_the_time_of_day_does_not_matter(ticks: list[Tick], shift: int) -> None:
    seen = observed(ticks)
    assert played(seen)[1] == played(seen, begin=T0 + shift)[1]


@given(RUNS, RUNS)
def test_a_restart_from_the_stored_state_changes_nothing(before: list[Tick], after: list[Tick]) -> None:
    seen = observed([*before, *after])
    state, _ = played(seen[: len(before)])
    stored = State.from_dict(json.loads(json.dumps(state.to_dict())))
    assert stored == state
    rest = seen[len(before) :]
    assert played(rest, begin=T0 + len(before), state=stored) == played(rest, begin=T0 + len(before), state=state)


@given(RUNS)
def test_what_was_decided_can_be_recorded_and_replayed(ticks: list[Tick]) -> None:
    seen = observed(ticks)
    decisions = played(seen)[1]
    assert played([told(each) for each in seen], told(SETTINGS))[1] == [told(each) for each in decisions] == decisions


@given(RUNS)
def test_the_same_tick_twice_is_one_tick(ticks: list[Tick]) -> None:
    state = State()
    for second, observation in enumerate(observed(ticks)):
        once = decide(SETTINGS, state, observation, T0 + second)
        assert decide(SETTINGS, once[0], observation, T0 + second) == once
        state = once[0]


@given(RUNS, TICKS)
def test_without_counts_the_last_answer_stands(ticks: list[Tick], last: Tick) -> None:
    *before, silent = observed([*ticks, replace(last, told=False)])
    state, decisions = played(before)
    after, decision = decide(SETTINGS, state, silent, T0 + len(before))
    assert decision.desired == decisions[-1].desired
    assert after.totals == state.totals


@given(RUNS, TICKS, st.integers(1, 100_000))
def test_a_clock_that_goes_back_holds_and_then_goes_on(ticks: list[Tick], last: Tick, back: int) -> None:
    *before, after = observed([*ticks, replace(last, told=True)])
    state, decisions = played(before)
    begin = T0 + len(before) - 1
    moved, decision = decide(SETTINGS, state, before[-1], begin - back)
    assert decision.desired == decisions[-1].desired
    straight = decide(SETTINGS, state, after, begin + 1)[1]
    assert decide(SETTINGS, moved, after, begin - back + 1)[1].desired == straight.desired


@given(RUNS, st.integers(1, 12), st.integers(1, 12), st.booleans())
def test_new_bounds_are_obeyed_at_once(ticks: list[Tick], one: int, other: int, told: bool) -> None:
    seen = observed(ticks)
    state, _ = played(seen)
    settings = replace(SETTINGS, min_replicas=min(one, other), max_replicas=max(one, other))
    again = replace(seen[-1], totals=seen[-1].totals if told else None)
    for now in (T0 + len(seen) - 1, T0 + len(seen), T0):
        decision = decide(settings, state, again, now)[1]
        assert settings.min_replicas <= decision.desired <= settings.max_replicas


@hypothesis.settings(max_examples=25)
@given(st.integers(0, 20), st.integers(1, 3000), st.integers(1, 400))
def test_a_constant_load_comes_to_rest(requests: int, prompt_tokens: int, output_tokens: int) -> None:
    tick = Tick(
        requests,
        prompt_tokens,
        requests,
        output_tokens,
        requests,
        0.0,
        5,
        0,
        0,
        ready=3,
        starting=(),
        started=(),
        told=True,
    )
    _, decisions = played(observed([tick] * 1200))
    assert len({each.desired for each in decisions[-60:]}) == 1


@given(RUNS, st.integers(1, 12), st.integers(0, 12), st.integers(0, 5))
def test_orders_come_to_the_number_and_take_back_first(
    ticks: list[Tick], desired: int, draining: int, backing_off: int
) -> None:
    seen = observed(ticks)
    state, _ = played(seen)
    now = replace(seen[-1], draining=draining, backing_off=backing_off)
    there = counted_on(state, now)
    asked = orders(state, now, desired, SETTINGS.max_replicas)
    assert asked.drain == max(0, there - desired)
    assert asked.undrain == min(max(0, desired - there), draining)
    assert asked.start <= max(0, desired - there - asked.undrain)
    if asked.start:
        all_told = now.ready + len(now.starting) + backing_off + asked.undrain + asked.start
        assert all_told <= SETTINGS.max_replicas
