"""What the gateways have told: a sum only when all of them have applied the drain, and nonsense is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from roost.control.gateways import GatewayRegistry
from roost.domain.errors import BadRequest
from roost.testing.clock import FakeClock


def report(gateway: str, version: int, in_flight: dict[str, int], pid: int = 1) -> dict[str, Any]:
    return {
        "protocol": 1,
        "gateway": gateway,
        "pid": pid,
        "term": 1,
        "version": version,
        "in_flight": in_flight,
        "held": {},
        "requests": {"e": {"completed": 2, "failed": 1, "last_at": 1.0}},
    }


class Fixture:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.dead: set[int] = set()
        self.registry = GatewayRegistry(
            self.clock.now, settle=timedelta(seconds=3), alive=lambda pid: pid not in self.dead
        )
        self.clock.advance(timedelta(seconds=3))


def test_nothing_is_known_before_the_gateways_of_before_had_time_to_come_back() -> None:
    clock = FakeClock()
    registry = GatewayRegistry(clock.now, settle=timedelta(seconds=3))
    assert registry.in_flight("r", 1, 1) is None
    clock.advance(timedelta(seconds=3))
    assert registry.in_flight("r", 1, 1) == 0


def test_the_sum_waits_for_the_last_gateway() -> None:
    it = Fixture()
    for name, pid in (("g0", 1), ("g1", 2)):
        it.registry.connected(name, pid)
    it.registry.report(report("g0", 5, {"r": 2}))
    assert it.registry.in_flight("r", 1, 5) is None
    it.registry.report(report("g1", 4, {"r": 1}, pid=2))
    assert it.registry.in_flight("r", 1, 5) is None
    it.registry.report(report("g1", 5, {"r": 1}, pid=2))
    assert it.registry.in_flight("r", 1, 5) == 3
    assert it.registry.in_flight("other", 1, 5) == 0
    assert it.registry.totals() == {"e": {"completed": 4, "failed": 2}}


def test_a_disconnected_gateway_counts_until_its_process_is_gone() -> None:
    it = Fixture()
    it.registry.connected("g0", 7)
    it.registry.report(report("g0", 4, {"r": 1}, pid=7))
    it.registry.disconnected("g0")
    assert it.registry.in_flight("r", 1, 5) is None
    it.dead.add(7)
    assert it.registry.in_flight("r", 1, 5) == 0


def test_a_gateway_that_lives_but_was_never_heard_of_is_unknown() -> None:
    clock, living = FakeClock(), {5}
    registry = GatewayRegistry(clock.now, settle=timedelta(0), alive=lambda pid: pid in living, expected=lambda: [5, 6])
    assert registry.in_flight("r", 1, 1) is None
    registry.report(report("g0", 1, {"r": 2}, pid=5))
    assert registry.in_flight("r", 1, 1) == 2
    living.add(6)
    assert registry.in_flight("r", 1, 1) is None
    living.discard(6)
    assert registry.in_flight("r", 1, 1) == 2


def test_a_load_is_known_whatever_table_the_gateways_have() -> None:
    it = Fixture()
    it.registry.report(report("g0", 1, {"r": 2}))
    assert it.registry.in_flight("r", 1, 9) is None
    assert it.registry.load("r") == 2


def test_a_report_of_an_earlier_term_acknowledges_nothing() -> None:
    it = Fixture()
    it.registry.report(report("g0", 900, {}))
    assert it.registry.in_flight("r", 2, 1) is None


def test_each_report_is_news() -> None:
    it, told = Fixture(), []
    it.registry.news = lambda: told.append(1)
    it.registry.report(report("g0", 1, {}))
    assert told == [1]


@pytest.mark.parametrize(
    "broken",
    [
        {"protocol": 2},
        {"in_flight": None},
        {"in_flight": {"r": "many"}},
        {"version": "new"},
        {"requests": {"e": 3}},
        {"pid": None},
    ],
)
def test_nonsense_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        Fixture().registry.report({**report("g0", 1, {}), **broken})


def test_a_missing_field_is_refused_by_name() -> None:
    whole = report("g0", 1, {})
    del whole["held"]
    with pytest.raises(BadRequest, match="held"):
        Fixture().registry.report(whole)


def counted(gateway: str, requests: float, *, first_tokens: tuple[int, ...] = (), unserved: int = 0) -> dict[str, Any]:
    demand = {"requests": requests, "busy_s": requests / 2, "first_tokens": first_tokens, "unserved": unserved}
    return {**report(gateway, 1, {}), "demand": {"e": demand}}


def test_demand_is_what_has_come_since_over_all_gateways_and_their_restarts() -> None:
    registry = Fixture().registry
    assert registry.demand("e").requests == 0
    registry.report(counted("g0", 100))  # counted before this control plane began
    registry.report(counted("g0", 103, first_tokens=(0, 2), unserved=3))
    registry.report(counted("g1", 7))
    registry.report(counted("g1", 9, first_tokens=(1,), unserved=1))
    found = registry.demand("e")
    assert (found.requests, found.busy_s, found.first_tokens, found.unserved) == (5, 2.5, (1, 2), 4)
    registry.report(counted("g1", 1))
    assert registry.demand("e").requests == 5
    registry.report(counted("g1", 2))
    assert registry.demand("e").requests == 6
    assert registry.demand("f").requests == 0


def test_reports_of_gateways_that_tell_no_demand_are_taken() -> None:
    registry = Fixture().registry
    registry.report(report("g0", 1, {}))
    assert registry.demand("e").requests == 0
    with pytest.raises(BadRequest):
        registry.report({**report("g0", 1, {}), "demand": {"e": {"requests": "many"}}})


def test_what_any_gateway_had_from_a_replica_grows_old_by_a_clock_that_nobody_sets() -> None:
    at = 100.0
    registry = GatewayRegistry(FakeClock().now, clock=lambda: at)
    assert registry.heard("r") is None
    registry.report(report("g0", 1, {}) | {"heard": {"r": 9.0}})
    registry.report(report("g1", 1, {}, pid=2) | {"heard": {"r": 2.0, "other": 1}})
    at += 5
    assert registry.heard("r") == timedelta(seconds=7)
    registry.report(report("g1", 1, {}, pid=2))  # of a release that does not tell
    assert registry.heard("r") == timedelta(seconds=14)
    assert registry.heard("other") is None
    with pytest.raises(BadRequest):
        registry.report(report("g0", 1, {}) | {"heard": {"r": "now"}})
