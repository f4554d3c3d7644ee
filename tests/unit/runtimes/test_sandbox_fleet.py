"""The declared fleet: the hardware ids that scripts use, in several zones, each with a price."""

from __future__ import annotations

from collections import defaultdict

from roost.policy.placement import configurations
from roost.runtimes import sandbox_fleet

IDS = [
    f"{count}x_{accelerator}"
    for accelerator in (
        "nvidia_a100_80gb_sxm",
        "nvidia_b200_180gb_sxm",
        "nvidia_h100_80gb_sxm",
        "nvidia_h200_140gb_sxm",
        "nvidia_l40s_48gb_pcie",
    )
    for count in (1, 2, 4, 8)
]


def test_it_offers_one_two_four_and_eight_of_each_accelerator() -> None:
    offered = configurations(sandbox_fleet.nodes(), sandbox_fleet.prices())
    assert list(offered) == IDS


def test_each_configuration_is_described_as_in_the_field_and_costs_something() -> None:
    offered = configurations(sandbox_fleet.nodes(), sandbox_fleet.prices())
    h100 = offered["4x_nvidia_h100_80gb_sxm"]
    assert (h100.gpu_type, h100.gpu_link, h100.memory_gb, h100.gpu_count) == ("h100-80gb", "sxm", 80, 4)
    assert h100.cents_per_minute == 4 * offered["1x_nvidia_h100_80gb_sxm"].cents_per_minute
    for hardware in offered.values():
        assert hardware.cents_per_minute > 0
        _, _, model, memory, link = hardware.id.split("_")
        assert (hardware.gpu_type, hardware.gpu_link) == (f"{model}-{memory}", link)


def test_nodes_have_ids_of_their_own_and_are_empty() -> None:
    nodes = sandbox_fleet.nodes()
    assert len({node.id for node in nodes}) == len(nodes)
    assert all(node.free == node.total and node.total.accelerators == 8 for node in nodes)


def test_there_are_three_zones_and_all_but_the_rarest_accelerators_are_in_several() -> None:
    zones = defaultdict(set)
    for node in sandbox_fleet.nodes():
        zones[node.accelerator].add(node.zone)
    assert set().union(*zones.values()) == {"us-central-1a", "us-east-1a", "eu-west-1a"}
    assert [name for name, where in zones.items() if len(where) < 2] == ["nvidia_b200_180gb_sxm"]
