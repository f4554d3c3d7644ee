"""Placement: configurations, choice of node, and the arithmetic of a refusal."""

from __future__ import annotations

from datetime import UTC, datetime

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


def gpu(name: str, count: int) -> Node:
    total = Resources(count * 8, count * 64 * GIB, count)
    return Node(name, "a", "nvidia_h100_80gb_sxm", total, total)


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
    assert offer(hardware, [cpu("small", 2)], NOW).availability == "insufficient"
    assert offer(hardware, [cpu("big", 8, free=3)], NOW).availability == "unavailable"
    assert offer(hardware, [cpu("big", 8)], NOW).availability == "available"


def test_unhealthy_nodes_get_nothing() -> None:
    nodes = [cpu("sick", 4, healthy=False)]
    refused = place(configurations(nodes, {})["1x_cpu"], nodes, None, False)
    assert isinstance(refused, NoRoom)


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
