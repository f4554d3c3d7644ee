"""The autoscaler's benchmark: its engine keeps its books, its runs repeat, its baselines follow their algorithms."""

from __future__ import annotations

from random import Random

import pytest
from benchmarks.autoscaler.baselines import Knative, KubeAI, Kubernetes, RayServe, Static
from benchmarks.autoscaler.engine import Books, EngineModel, Replica, Request
from benchmarks.autoscaler.fleet import Fleet, Outcome, Scaler, Setup, View
from benchmarks.autoscaler.ours import Roost
from benchmarks.autoscaler.scenarios import scenarios
from benchmarks.autoscaler.traces import Part, Quantiles, busiest

from roost.policy.autoscale_state import Settings

ENGINE = EngineModel(prefill_s_per_token=0.001, iteration_s=0.010, iteration_s_per_request=0.005, slots=4)


def steady(in_flight: int, seconds: int, scaler: Scaler, ready: int) -> int:
    """What a scaler wants after so many seconds of a constant load, when what it wants is there at once."""
    view, wanted = View(), ready
    view.in_flight, view.ready = in_flight, ready
    at = 0.0
    while (at := at + scaler.interval_s) <= seconds:
        view.load_s = in_flight * at
        view.ready = wanted = scaler.desired(view, at)
    return wanted


@pytest.mark.parametrize(
    ("scaler", "wanted"),
    [(Knative(8), 8), (Kubernetes(8), 5), (RayServe(8), 5), (KubeAI(8), 5)],
    ids=["40 over 70 % of 8", "40 over 8", "40 over 8 after its delay", "40 over 8 on average"],
)
def test_baselines_divide_the_load_by_their_target(scaler: Scaler, wanted: int) -> None:
    assert steady(40, 120, scaler, ready=wanted - 1) == wanted


def test_ray_serve_waits_before_it_rises() -> None:
    assert steady(40, 20, RayServe(8), ready=1) == 1


def test_knative_panics_on_a_surge_and_does_not_fall_in_it() -> None:
    scaler, view = Knative(8), View()
    view.ready, view.in_flight = 2, 40
    view.load_s = 240.0
    surge = scaler.desired(view, 6.0)
    assert surge == 8
    view.in_flight = 0
    assert scaler.desired(view, 30.0) == 8
    assert scaler.desired(view, 100.0) < 8


def test_a_request_alone_takes_its_prefill_and_its_iterations() -> None:
    books = Books()
    replica = Replica(0.0, 0.0, ENGINE, books)
    request = Request(0, 0.0, 100, 11)
    replica.take(request, 0.0)
    assert replica.next_event() == pytest.approx(0.1)
    replica.happen(replica.next_event())
    assert request.ttft_s == pytest.approx(0.1)
    assert replica.next_event() == pytest.approx(0.1 + 10 * 0.015)
    assert replica.happen(replica.next_event()) == (None, [request])
    assert (request.done, replica.in_flight) == (1, 0)
    assert books.busy_s == pytest.approx(0.25)
    assert books.prefilled_tokens == 100
    assert books.iterations == pytest.approx(10)


def test_prefill_stops_decoding() -> None:
    replica = Replica(0.0, 0.0, ENGINE, Books())
    first, second = Request(0, 0.0, 100, 11), Request(1, 0.15, 200, 1)
    replica.take(first, 0.0)
    replica.happen(0.1)
    replica.take(second, 0.15)
    replica.happen(replica.next_event())
    assert second.ttft_s == pytest.approx(0.2)
    assert replica.next_event() == pytest.approx(0.1 + 10 * 0.015 + 0.2)


def _outcome(scaler: Scaler, seed: int = 3) -> Outcome:
    requests = scenarios(None)[2].draw(Random(seed))
    return Fleet(Setup(requests, 3600.0, 10.0, 5.0, seed), scaler).run()


def test_every_request_is_answered_once_and_a_run_repeats() -> None:
    ours = [_outcome(Roost(Settings(1, 16, 16))) for _ in range(2)]
    assert ours[0] == ours[1]
    assert ours[0].lost == 0
    assert ours[0].attainment > _outcome(Static(1)).attainment


def test_a_static_fleet_costs_its_number_all_along() -> None:
    # The one there is at the beginning, and four ordered at the first tick, within the first minute.
    hours = _outcome(Static(5)).replica_hours
    assert 5.0 - 4 / 60 <= hours <= 5.0


def test_the_busiest_window_keeps_its_limits() -> None:
    def part(index: int, rps: float) -> Part:
        return Part(index * 600.0, rps, False, 1.0)

    record = [part(0, 1.0), part(1, 2.0), part(20, 3.0), part(21, 9.0), part(60, 2.5)]
    assert busiest(record, 5.0) == [part(0, 1.0), part(1, 2.0)]
    assert [each.rate_rps for each in busiest(record, 10.0)] == [3.0, 9.0]


def test_drawn_lengths_have_the_recorded_mean() -> None:
    lengths = Quantiles.of([0, 0.5, 0.99, 1], [1, 100, 200, 30_000], 150.0)
    random = Random(1)
    assert sum(lengths.draw(random) for _ in range(200_000)) / 200_000 == pytest.approx(150, rel=0.1)
