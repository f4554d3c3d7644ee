"""Placement: configurations, choice of node, and the arithmetic of a refusal."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.domain.hardware import HardwarePrice, Node, Placement, Resources
from roost.policy.placement import NoRoom, configurations, offer, place

GIB = 1024**3
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def cpu(name: str, threads: int, free: int | None = None, zone: str = "a", *, healthy: bool = True) -> Node:
    room = threads if free is None else free
    return Node(
        name, zone, "cpu", Resources(threads, threads * 4 * GIB), Resources(room, room * 4 * GIB), healthy=healthy
    )


def gpu(name: str, count: int, free: int | None = None) -> Node:
    total = Resources(count * 8, count * 64 * GIB, count)
    return Node(name, "a", "nvidia_h100_80gb_sxm", total, total if free is None else replace(total, accelerators=free))


def test_cpu_nodes_offer_each_thread_count_with_its_share_of_memory() -> None:
    offers = configurations([cpu("n", 3)], {})
    assert list(offers) == ["1x_cpu", "2x_cpu", "3x_cpu"]
    assert offers["2x_cpu"].resources == Resources(2, 8 * GIB)
    assert offers["2x_cpu"].gpu_link == "none"
    assert offers["2x_cpu"].memory_gb == 8.6


def test_gpu_nodes_offer_powers_of_two() -> None:
    prices = {"nvidia_h100_80gb_sxm": HardwarePrice(cents_per_minute=5.5, gpu_link="sxm", memory_gb=80)}
    offers = configurations([gpu("g", 8)], prices)
    assert list(offers) == [f"{n}x_nvidia_h100_80gb_sxm" for n in (1, 2, 4, 8)]
    four = offers["4x_nvidia_h100_80gb_sxm"]
    assert (four.cents_per_minute, four.memory_gb, four.resources.accelerators) == (22.0, 80, 4)


def test_the_tightest_fitting_node_is_taken() -> None:
    nodes = [cpu("big", 8), cpu("tight", 4, free=2)]
    placed = place(configurations(nodes, {})["2x_cpu"], nodes, None, False)
    assert isinstance(placed, Placement)
    assert placed.node_id == "tight"


def test_a_preferred_zone_gives_way_and_says_so() -> None:
    nodes = [cpu("a1", 2, free=0, zone="a"), cpu("b1", 2, zone="b")]
    hardware = configurations(nodes, {})["1x_cpu"]
    placed = place(hardware, nodes, "a", False)
    assert isinstance(placed, Placement)
    assert placed.zone == "b"
    assert "zone a has none free" in placed.reason
    refused = place(hardware, nodes, "a", True)
    assert isinstance(refused, NoRoom)
    assert refused.code == "no_capacity"


def test_a_refusal_says_which_node_lacks_what() -> None:
    nodes = [cpu("n1", 4, free=1)]
    refused = place(configurations(nodes, {})["2x_cpu"], nodes, None, False)
    assert isinstance(refused, NoRoom)
    assert "node n1: CPU threads: 2 wanted, 1 free" in refused.reason


def test_what_no_node_could_hold_is_infeasible() -> None:
    hardware = configurations([cpu("big", 8)], {})["8x_cpu"]
    refused = place(hardware, [cpu("small", 2)], None, False)
    assert isinstance(refused, NoRoom)
    assert refused.code == "infeasible"


H100 = "nvidia_h100_80gb_sxm"


@pytest.mark.parametrize(
    ("hardware", "nodes", "availability"),
    [
        pytest.param("4x_cpu", [cpu("n", 8)], "available", id="all is free"),
        pytest.param("4x_cpu", [cpu("n", 8, free=4)], "available", id="just enough is free"),
        pytest.param("4x_cpu", [cpu("n", 8, free=3)], "insufficient", id="some is free"),
        pytest.param("4x_cpu", [cpu("a", 4, free=2), cpu("b", 4, free=2)], "insufficient", id="enough, but scattered"),
        pytest.param("4x_cpu", [cpu("n", 8, free=0)], "unavailable", id="none is free"),
        pytest.param("4x_cpu", [cpu("n", 8, healthy=False)], "unavailable", id="what is free does not answer"),
        pytest.param("4x_cpu", [], "unavailable", id="no node"),
        pytest.param("4x_cpu", [cpu("n", 8, free=0), gpu("g", 8)], "unavailable", id="another accelerator is free"),
        pytest.param(f"4x_{H100}", [gpu("g", 8, free=3), cpu("n", 8)], "insufficient", id="some accelerators are free"),
        pytest.param(
            f"4x_{H100}", [gpu("g", 8, free=0)], "unavailable", id="no accelerator is free, though threads are"
        ),
    ],
)
def test_what_is_free_of_a_configuration(hardware: str, nodes: list[Node], availability: str) -> None:
    known = configurations([cpu("any", 8), gpu("any", 8)], {})
    assert offer(known[hardware], nodes, NOW).availability == availability


def test_unhealthy_nodes_get_nothing_but_may_recover() -> None:
    nodes = [cpu("sick", 4, healthy=False), cpu("small", 2)]
    refused = place(configurations(nodes, {})["4x_cpu"], nodes, None, False)
    assert isinstance(refused, NoRoom)
    assert refused.code == "no_capacity"
    assert refused.reason == (
        "No hardware is free for 4x_cpu: node sick does not answer; node small: CPU threads: 4 wanted, 2 free."
    )


def test_a_node_without_room_gives_its_notice_once() -> None:
    told = "At most 6 engines run at once here."
    nodes = [replace(cpu(name, 2, free=0), notice=told) for name in ("a", "b")]
    hardware = configurations(nodes, {})["2x_cpu"]
    full = place(hardware, nodes, None, False)
    small = place(hardware, [replace(cpu("a", 1), notice=told)], None, False)
    assert isinstance(full, NoRoom)
    assert isinstance(small, NoRoom)
    assert full.reason == f"No hardware is free for 2x_cpu. {told}"
    assert small.reason.endswith(f"2 wanted, 1 free. {told}")
    assert place(hardware, [replace(cpu("a", 2), notice=told)], None, False) == Placement(
        "a", "a", "node a has room for 2x_cpu"
    )


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(0, 8)), min_size=1, max_size=5), st.integers(1, 8))
def test_what_is_placed_fits(sizes: list[tuple[int, int]], wanted: int) -> None:
    nodes = [cpu(f"n{i}", total, min(free, total)) for i, (total, free) in enumerate(sizes)]
    hardware = configurations(nodes, {}).get(f"{wanted}x_cpu")
    if hardware is None:
        return
    placed = place(hardware, nodes, None, False)
    fitting = [node for node in nodes if hardware.resources.fits(node.free)]
    assert isinstance(placed, Placement) == bool(fitting)
    if isinstance(placed, Placement):
        assert placed.node_id in {node.id for node in fitting}
