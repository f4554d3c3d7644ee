"""What the autoscaling policy answers to plain situations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roost.policy.autoscale import decide, hold_s, orders, staffed
from roost.policy.autoscale_state import Decision, Observation, Settings, State, Totals
from roost.policy.calibration import Calibration, Costs, StartTimes, learn_start

SETTINGS = Settings(min_replicas=1, max_replicas=20, slots=16)
COSTS = Costs(0.0005, 0.0, 0.001)
"""A prompt of 1000 tokens costs half a second, an output of 100 tokens a tenth."""
FRESH = State(calibration=Calibration.probed(COSTS), output_tokens=100.0, beta=1.0)


class Line:
    """A load told second by second."""

    def __init__(self, state: State = FRESH, settings: Settings = SETTINGS) -> None:
        self.state, self.settings, self.now = state, settings, 0.0
        self.totals = Totals()
        self.tell(0)

    def tell(self, requests: int, *, told: bool = True, ready: int = 1, **more: object) -> Decision:
        """A second with so many requests of 1000 prompt tokens."""
        self.totals = replace(
            self.totals,
            requests=self.totals.requests + requests,
            prompt_tokens=self.totals.prompt_tokens + 1000 * requests,
        )
        seen = replace(Observation(self.totals if told else None, ready), **more)  # type: ignore[arg-type]
        self.state, decision = decide(self.settings, self.state, seen, self.now)
        self.now += 1
        return decision


def test_room_for_chance_grows_with_the_root() -> None:
    assert [staffed(work, 1.0) for work in (0.0, 0.3, 1.0, 4.0, 9.0)] == [0, 1, 2, 6, 12]
    assert staffed(4.0, 0.0) == 4


def test_steady_work_is_staffed() -> None:
    line = Line()
    for _ in range(90):
        decision = line.tell(4, ready=4)
    assert decision.terms["w60"] == pytest.approx(4 * 0.6)
    assert decision.desired == staffed(2.4, 1.0)
    assert decision.reason == "the work of the last minute"


def test_a_burst_is_answered_within_its_first_seconds() -> None:
    line = Line()
    for _ in range(60):
        line.tell(0)
    decisions = [line.tell(8) for _ in range(3)]
    assert decisions[2].desired > 1
    assert decisions[2].reason == "a burst of work in the last seconds"


def test_prompts_that_wait_ask_for_replicas_at_once() -> None:
    decision = Line().tell(0, unserved=8, unserved_prompt_tokens=8000.0, in_flight=8)
    # Four seconds of prefill; what may wait at a replica is 0.4 s and 1.25 usual prompts of half a second.
    assert decision.desired == 4
    assert decision.reason == "prompts that wait for their first token"


def test_one_long_prompt_asks_for_no_second_replica() -> None:
    assert Line().tell(0, unserved=1, unserved_prompt_tokens=8000.0, in_flight=1).desired == 1


def test_longer_prompts_may_wait_longer() -> None:
    line = Line(replace(FRESH, prompt_tokens=4000.0))
    assert line.tell(0, unserved=8, unserved_prompt_tokens=8000.0, in_flight=8).desired == 2


def test_full_slots_ask_for_replicas() -> None:
    assert Line().tell(0, in_flight=16, held=30).desired == 5


def test_requests_of_unknown_length_are_left_to_the_other_terms() -> None:
    assert "waiting" not in Line().tell(0, in_flight=3).terms


def test_replicas_go_when_the_hold_is_over() -> None:
    line = Line(replace(FRESH, starts=learn_start(StartTimes(), 5.0)))
    assert line.tell(0, in_flight=40).desired == 4
    held = [line.tell(0, ready=4).desired for _ in range(70)]
    assert held[:55] == [4] * 55
    assert held[-1] == 1


def test_the_hold_follows_the_start_time() -> None:
    def hold(start_s: float) -> float:
        return hold_s(SETTINGS, State(starts=learn_start(StartTimes(), start_s)))

    assert [hold(1), hold(60), hold(1000)] == [60, 180, 600]
    assert hold_s(SETTINGS, State()) == 90


@pytest.mark.parametrize(("held", "starting"), [(1, ()), (0, (2.0,))])
def test_nothing_goes_while_requests_are_held_or_replicas_start(held: int, starting: tuple[float, ...]) -> None:
    line = Line()
    assert line.tell(0, ready=5, held=held, starting=starting).desired == 5 + len(starting)


def test_an_overdue_start_is_replaced_and_one_in_backoff_too() -> None:
    state = State(starts=learn_start(StartTimes(), 10.0))
    seen = Observation(Totals(), ready=1, starting=(3.0, 100.0), backing_off=1)
    assert orders(state, seen, 4, 20).start == 2
    assert orders(state, seen, 4, 5).start == 1


def test_what_drains_is_taken_back_first() -> None:
    asked = orders(State(), Observation(Totals(), ready=1, draining=2), 4, 20)
    assert (asked.undrain, asked.start, asked.drain) == (2, 1, 0)


def test_a_gateway_that_begins_anew_is_no_burst() -> None:
    line = Line()
    for _ in range(60):
        line.tell(4)
    before = line.tell(4)
    line.totals = Totals(requests=3, prompt_tokens=3000)
    assert line.tell(0).desired == before.desired


def test_a_gap_in_the_counts_is_spread_over_its_time() -> None:
    line = Line()
    for _ in range(60):
        line.tell(2)
    for _ in range(20):
        line.tell(2, told=False)
    assert line.tell(2).terms["w5"] == pytest.approx(2 * 0.6)


@pytest.mark.parametrize(("in_time", "beta"), [(0, 1.0), (100, 0.0)])
def test_beta_follows_what_came_in_time(in_time: int, beta: float) -> None:
    line = Line(replace(FRESH, beta=0.5))
    for _ in range(20 * 60):
        old = line.totals
        line.totals = replace(
            old,
            first_tokens=old.first_tokens + 100,
            first_tokens_in_time=old.first_tokens_in_time + in_time,
        )
        line.tell(0)
    assert line.state.beta == pytest.approx(beta)


def test_expected_output_is_learned() -> None:
    line = Line()
    for _ in range(600):
        old = line.totals
        line.totals = replace(old, finished=old.finished + 1, finished_output_tokens=old.finished_output_tokens + 700)
        line.tell(1)
    assert line.state.output_tokens == pytest.approx(700, rel=0.01)


@pytest.mark.parametrize("bounds", [(-1, 1), (2, 1), (0, 0)])
def test_bounds_that_contradict_each_other_are_refused(bounds: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="min_replicas"):
        Settings(*bounds, slots=1)


def test_after_the_clock_went_back_needs_are_forgotten_in_their_time() -> None:
    line = Line(replace(FRESH, starts=learn_start(StartTimes(), 5.0)))
    for _ in range(60):
        decision = line.tell(6, ready=6)
    line.now -= 3600
    assert line.tell(0, ready=6).desired == decision.desired
    assert [line.tell(0, ready=6).desired for _ in range(150)][-1] == 1


def test_first_tokens_are_counted_anew_when_a_gateway_begins_anew() -> None:
    line = Line(replace(FRESH, beta=0.5))
    line.totals = Totals(first_tokens=1_000_000, first_tokens_in_time=1_000_000)
    for _ in range(120):
        line.tell(0)
    line.totals = Totals()
    for _ in range(4 * 60):
        line.totals = replace(line.totals, first_tokens=line.totals.first_tokens + 100)
        line.tell(0)
    assert line.state.beta > 0.5


def test_long_prompts_that_wait_do_not_excuse_themselves() -> None:
    def asked(tokens_each: float) -> Decision:
        line = Line(replace(FRESH, prompt_tokens=100.0))
        line.totals = replace(line.totals, requests=8, prompt_tokens=8 * tokens_each)
        return line.tell(0, unserved=8, unserved_prompt_tokens=8000.0, in_flight=8)

    assert asked(9000.0).terms["waiting"] == asked(1000.0).terms["waiting"] == 8


def test_a_state_of_another_version_is_read_as_far_as_it_is_known() -> None:
    form = {**FRESH.to_dict(), "of_tomorrow": 1}
    del form["beta"]
    assert State.from_dict(form) == replace(FRESH, beta=State().beta)
