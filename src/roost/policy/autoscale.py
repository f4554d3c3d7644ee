"""How many replicas an endpoint shall have. Pure; called by the control loop once a second, and by the benchmark.

The load is measured in work: busy replica-seconds a second that arriving requests bring, from their prompt tokens and
the output tokens to be expected, at prices that ``policy.calibration`` learns. It never looks at a clock, and never
decides on zero: that is ``policy.idle``. The formula and its figures: docs/autoscaling.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, inf, sqrt

from roost.policy.autoscale_state import Decision, Observation, Settings, State, Totals
from roost.policy.calibration import Calibration, Work, learn_start, refine, start_quantile
from roost.policy.demand import add_span, largest, note_count, rate

SLOW_S, FAST_S = 60.0, 5.0
"""The windows over which arriving work is averaged."""
NEED_GRAIN_S = 5.0
"""Needs are remembered by the largest of so many seconds."""
LENGTHS_MEMORY = 100.0
"""Requests over which the expected numbers of prompt and output tokens are averaged."""
OVERDUE = 1.5
"""A start that takes this many times as long as the slowest in twenty is no longer counted on."""
BURST_FACTOR = 3.0
"""At how many times the steady work a burst is taken for real; the backlog tells of more."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What brings the replicas to a number: how many to take back from draining, to start, to drain."""

    undrain: int = 0
    start: int = 0
    drain: int = 0


def decide(settings: Settings, state: State, observation: Observation, now: float) -> tuple[State, Decision]:
    """The state after looking at ``observation`` at ``now`` (seconds), and how many replicas there shall be.

    Asked again at the same time it answers the same; when the clock has gone back, or no gateway tells, the last
    answer stands. New bounds are obeyed at once in every case.
    """
    if state.at is not None and now < state.at:
        return _unchanged(settings, _shifted(state, now - state.at), observation, now, "the clock went back")
    if state.decision is not None and now == state.at:
        return state, _within(settings, state.decision)
    for seconds in observation.started:
        state = replace(state, starts=learn_start(state.starts, seconds))
    if observation.totals is None:
        return _unchanged(settings, state, observation, now, "no gateway tells its counts")
    # The length to be expected is that of earlier prompts: long ones among those that wait shall not excuse themselves.
    usual = state.prompt_tokens
    state = _counted(settings, state, observation.totals, now)
    work, burst = rate(state.arrived, now, SLOW_S), rate(state.arrived, now, FAST_S)
    terms = _terms(settings, replace(state, prompt_tokens=usual), observation, work, burst)
    needs = note_count(state.needs, now, max(terms.values()), NEED_GRAIN_S, settings.hold_most_s)
    state = replace(state, at=now, needs=needs)
    decision = _chosen(settings, state, observation, now, terms)
    shown = {**decision.terms, "w60": work, "w5": burst, "beta": state.beta}
    state = replace(state, decision=replace(decision, terms=shown))
    return state, _within(settings, replace(decision, terms=shown))


def orders(state: State, observation: Observation, desired: int, max_replicas: int) -> Orders:
    """How to come from what there is to ``desired``: what drains is taken back before anything is started, and starts
    that are overdue or wait for another attempt are replaced, but never beyond ``max_replicas`` all in all."""
    counted = observation.ready + _starting(state, observation)
    if desired <= counted:
        return Orders(drain=counted - desired)
    undrain = min(desired - counted, observation.draining)
    there = observation.ready + len(observation.starting) + observation.backing_off + undrain
    return Orders(undrain=undrain, start=max(0, min(desired - counted - undrain, max_replicas - there)))


def staffed(work: float, beta: float) -> int:
    """Replicas for ``work`` (replica-equivalents) by square-root staffing: the room for chance grows with the root."""
    return ceil(work + beta * sqrt(work) - 1e-9)


def hold_s(settings: Settings, state: State) -> float:
    """How long a need is remembered before replicas go, in seconds: longer where starting again takes longer."""
    start_s = start_quantile(state.starts, 0.5, settings.unknown_start_s)
    return min(max(settings.hold_starts * start_s, settings.hold_least_s), settings.hold_most_s)


def _terms(settings: Settings, state: State, observation: Observation, work: float, burst: float) -> dict[str, int]:
    """How many replicas each view of the load asks for."""
    surge = burst > work + 3 * sqrt(max(work, 0.25) / FAST_S)
    terms = {
        "steady": staffed(work, state.beta),
        "burst": staffed(min(burst, BURST_FACTOR * work + 1), state.beta) if surge else 0,
        "running": ceil((observation.in_flight + observation.held) / (settings.full_share * settings.slots) - 1e-9),
    }
    if observation.unserved is not None and observation.unserved_prompt_tokens is not None:
        prefill_s = state.calibration.costs.prefill_s_per_token
        may_wait_s = settings.waiting_share * settings.ttft_target_s
        may_wait_s += settings.waiting_prompts * state.prompt_tokens * prefill_s
        wanted = ceil(observation.unserved_prompt_tokens * prefill_s / may_wait_s - 1e-9)
        # A prompt cannot be shared out, however long it is.
        terms["waiting"] = min(wanted, observation.unserved)
    return terms


def _chosen(settings: Settings, state: State, observation: Observation, now: float, terms: dict[str, int]) -> Decision:
    """The largest term, not below the largest need of the hold, nor below what there is while it is needed."""
    starting = _starting(state, observation)
    current = observation.ready + starting
    name = max(terms, key=lambda each: terms[each])
    need, floor = terms[name], largest(state.needs, now, hold_s(settings, state))
    shown = {**terms, "floor": floor}
    if floor > need:
        need, name = floor, "hold"
    if need < current and (observation.held or starting):
        return Decision(current, "requests are held" if observation.held else "replicas are starting", shown)
    return Decision(need, REASONS[name], shown)


REASONS = {
    "steady": "the work of the last minute",
    "burst": "a burst of work in the last seconds",
    "running": "requests running and held",
    "waiting": "prompts that wait for their first token",
    "hold": "a need of a short while ago",
}


def _starting(state: State, observation: Observation) -> int:
    """Starts that are counted on."""
    overdue_s = OVERDUE * start_quantile(state.starts, 0.95, inf)
    return sum(1 for age in observation.starting if age <= overdue_s)


def _within(settings: Settings, decision: Decision) -> Decision:
    """The decision within the bounds; the state remembers it without, so that new bounds are obeyed at once."""
    least = max(settings.min_replicas, 1)
    if decision.desired < least:
        return replace(decision, desired=least, reason=f"{decision.reason}; at least {least}")
    if decision.desired > settings.max_replicas:
        return replace(
            decision, desired=settings.max_replicas, reason=f"{decision.reason}; at most {settings.max_replicas}"
        )
    return decision


def _unchanged(
    settings: Settings, state: State, observation: Observation, now: float, why: str
) -> tuple[State, Decision]:
    there = observation.ready + len(observation.starting)
    decision = Decision(state.decision.desired if state.decision is not None else there, why)
    return replace(state, at=now, decision=decision), _within(settings, decision)


def _counted(settings: Settings, state: State, totals: Totals, now: float) -> State:
    """What has arrived and what was done since the last observation, and what is learned from it."""
    old, begin = state.totals, state.told_at
    if old is None or begin is None or begin >= now:
        return replace(state, totals=totals, told_at=now, trimmed_at=now)
    finished = max(0, totals.finished - old.finished)
    expected = _learned(state.output_tokens, totals.finished_output_tokens - old.finished_output_tokens, finished)
    calibration = _calibrated(state.calibration, old.work, totals.work)
    requests = max(0, totals.requests - old.requests)
    prompt_tokens = max(0.0, totals.prompt_tokens - old.prompt_tokens)
    costs = calibration.costs
    work = prompt_tokens * costs.prefill_s_per_token
    work += requests * expected * costs.output_s(settings.full_share * settings.slots)
    state = replace(
        state,
        totals=totals,
        told_at=now,
        arrived=add_span(state.arrived, begin, now, work, SLOW_S),
        prompt_tokens=_learned(state.prompt_tokens, prompt_tokens, requests),
        output_tokens=expected,
        calibration=calibration,
    )
    return _trimmed(settings, state, totals, now)


def _learned(expected: float, tokens: float, requests: int) -> float:
    """The expected tokens of a request after ``requests`` more had ``tokens`` together."""
    if not requests:
        return expected
    return expected + (max(0.0, tokens) / requests - expected) * (1 - (1 - 1 / LENGTHS_MEMORY) ** requests)


def _calibrated(calibration: Calibration, old: Work, new: Work) -> Calibration:
    done = Work(
        new.busy_s - old.busy_s,
        new.prompt_tokens - old.prompt_tokens,
        new.iterations - old.iterations,
        new.output_tokens - old.output_tokens,
    )
    parts = (done.busy_s, done.prompt_tokens, done.iterations, done.output_tokens)
    # A part that fell: a gateway has begun anew in between.
    return refine(calibration, done) if min(parts) >= 0 < done.busy_s else calibration


def _trimmed(settings: Settings, state: State, totals: Totals, now: float) -> State:
    """With β after a look, once a minute, at how many first tokens of the last quarter of an hour came in time."""
    if state.trimmed_at is None or now - state.trimmed_at < settings.trim_every_s:
        return state
    mark = (now, totals.first_tokens, totals.first_tokens_in_time)
    kept = tuple(each for each in state.attainment if each[0] > now - settings.trim_window_s)
    if kept and (mark[1] < kept[-1][1] or mark[2] < kept[-1][2]):
        kept = ()
    marks = (*kept, mark)
    count, in_time = mark[1] - marks[0][1], mark[2] - marks[0][2]
    beta = state.beta
    if count >= settings.trim_least_requests:
        if in_time < settings.attained * count:
            beta = min(settings.beta_most, beta + settings.beta_step)
        elif in_time > settings.well_attained * count:
            beta = max(settings.beta_least, beta - settings.beta_step)
    return replace(state, beta=beta, attainment=marks, trimmed_at=now)


def _shifted(state: State, by: float) -> State:
    """The state with all its times moved."""
    return replace(
        state,
        told_at=None if state.told_at is None else state.told_at + by,
        trimmed_at=None if state.trimmed_at is None else state.trimmed_at + by,
        arrived=tuple((begin + by, end + by, amount) for begin, end, amount in state.arrived),
        needs=tuple((at + by, count) for at, count in state.needs),
        attainment=tuple((at + by, count, in_time) for at, count, in_time in state.attainment),
    )
