"""The fleet that a sandbox declares: nodes of eight accelerators in three zones, and what they cost.

Used by the sandbox's runtime (the nodes) and by the composition root (the prices). None of these machines exists; the
prices are made up, of a plausible size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from roost.domain.hardware import HardwarePrice, Node, Resources

GIB = 1024**3
PER_NODE = 8
"""Accelerators of a node."""

ZONES = ("us-central-1a", "us-east-1a", "eu-west-1a")


class Accelerator(NamedTuple):
    """A kind of node: the accelerator's short name, link and memory in GB, its price, the node's threads and memory
    in GiB, and how many such nodes each of ``ZONES`` has."""

    name: str
    link: str
    memory_gb: int
    cents_per_minute: float
    threads: int
    node_gib: int
    nodes: tuple[int, int, int]


ACCELERATORS: Mapping[str, Accelerator] = {
    "nvidia_h100_80gb_sxm": Accelerator("h100", "sxm", 80, 5.6, 192, 2048, (2, 1, 1)),
    "nvidia_h200_140gb_sxm": Accelerator("h200", "sxm", 140, 8.2, 192, 2048, (1, 1, 0)),
    "nvidia_a100_80gb_sxm": Accelerator("a100", "sxm", 80, 4.3, 128, 1024, (1, 0, 1)),
    "nvidia_l40s_48gb_pcie": Accelerator("l40s", "pcie", 48, 3.5, 96, 768, (0, 1, 1)),
    "nvidia_b200_180gb_sxm": Accelerator("b200", "sxm", 180, 12.4, 224, 4096, (0, 1, 0)),
}
"""By the node type that hardware ids are made of."""


def nodes() -> tuple[Node, ...]:
    """All declared nodes, empty."""
    return tuple(
        Node(f"{kind.name}-{zone}-{number}", zone, accelerator, total, total)
        for accelerator, kind in ACCELERATORS.items()
        for total in (Resources(kind.threads, kind.node_gib * GIB, PER_NODE),)
        for zone, count in zip(ZONES, kind.nodes, strict=True)
        for number in range(1, count + 1)
    )


def prices() -> dict[str, HardwarePrice]:
    """What one of each accelerator costs, and how it is shown."""
    return {
        accelerator: HardwarePrice(
            cents_per_minute=kind.cents_per_minute,
            gpu_type=f"{kind.name}-{kind.memory_gb}gb",
            gpu_link=kind.link,
            memory_gb=kind.memory_gb,
        )
        for accelerator, kind in ACCELERATORS.items()
    }
