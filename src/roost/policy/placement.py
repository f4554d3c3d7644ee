"""Placement: which hardware configurations the nodes offer, what is free of them, and where a replica goes.

Pure. Called by control (to place), services (to list hardware and to check a request).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from roost.domain.hardware import Hardware, HardwarePrice, Node, Offer, Placement, Resources

CPU = "cpu"

BUILT_IN_PRICES: Mapping[str, HardwarePrice] = {
    CPU: HardwarePrice(cents_per_minute=0.0, gpu_type="cpu", gpu_link="none", memory_gb=None),
}
"""What a configuration costs and how it is shown where the configuration file says nothing: a CPU that the user owns
already is free of charge."""

GPU_COUNTS = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class NoRoom:
    """No node can take the replica now. ``code``: ``no_capacity`` (one could, when free) or ``infeasible``;
    ``reason`` says which node lacks what."""

    code: str
    reason: str


def configurations(nodes: Sequence[Node], prices: Mapping[str, HardwarePrice]) -> dict[str, Hardware]:
    """The hardware configurations that at least one of ``nodes`` could hold when empty, by id, smallest first.

    CPU nodes offer ``1x_cpu`` up to all their threads, each thread with its share of the node's memory; GPU nodes
    offer 1, 2, 4, 8 of their accelerators, with the same share of threads and memory.
    """
    found: dict[str, Hardware] = {}
    for node in sorted(nodes, key=lambda n: (n.accelerator, n.id)):
        units = node.total.threads if node.accelerator == CPU else node.total.accelerators
        counts = range(1, units + 1) if node.accelerator == CPU else [c for c in GPU_COUNTS if c <= units]
        for count in counts:
            hardware = _configuration(node, units, count, prices)
            known = found.get(hardware.id)
            if known is None or hardware.resources.memory_bytes < known.resources.memory_bytes:
                found[hardware.id] = hardware
    return dict(sorted(found.items(), key=lambda item: (item[1].accelerator, item[1].gpu_count)))


def _configuration(node: Node, units: int, count: int, prices: Mapping[str, HardwarePrice]) -> Hardware:
    base = BUILT_IN_PRICES.get(node.accelerator, HardwarePrice(0.0, node.accelerator, "unknown", 0.0))
    price = prices.get(node.accelerator, HardwarePrice())
    memory = node.total.memory_bytes * count // units
    shown = price.memory_gb if price.memory_gb is not None else base.memory_gb
    cents = price.cents_per_minute if price.cents_per_minute is not None else (base.cents_per_minute or 0.0)
    is_cpu = node.accelerator == CPU
    return Hardware(
        id=f"{count}x_{node.accelerator}",
        accelerator=node.accelerator,
        gpu_type=price.gpu_type or base.gpu_type or node.accelerator,
        gpu_count=count,
        gpu_link=price.gpu_link or base.gpu_link or "unknown",
        memory_gb=shown if shown is not None else round(memory / 1e9, 1),
        cents_per_minute=cents * count,
        resources=Resources(
            threads=count if is_cpu else node.total.threads * count // units,
            memory_bytes=memory,
            accelerators=0 if is_cpu else count,
        ),
    )


def place(hardware: Hardware, nodes: Sequence[Node], zone: str | None, zone_required: bool) -> Placement | NoRoom:
    """Where a replica on ``hardware`` goes: the fitting node with the least room left (so that large holes stay
    large), in the preferred ``zone`` where one there fits, else elsewhere unless ``zone_required``. A node that is not
    healthy takes nothing, but counts as one that could."""
    kind = [node for node in nodes if node.accelerator == hardware.accelerator]
    allowed = [node for node in kind if zone is None or not zone_required or node.zone == zone]
    fitting = [node for node in allowed if node.healthy and hardware.resources.fits(node.free)]
    if not fitting:
        return _no_room(hardware, kind, allowed, zone if zone_required else None)
    preferred = [node for node in fitting if zone is None or node.zone == zone]
    best = min(preferred or fitting, key=lambda n: (n.free.accelerators, n.free.threads, n.free.memory_bytes, n.id))
    reason = f"node {best.id} has room for {hardware.id}"
    if zone is not None and not preferred:
        reason += f"; zone {zone} has none free, so zone {best.zone} is used"
    return Placement(best.id, best.zone, reason)


def _no_room(hardware: Hardware, kind: Sequence[Node], allowed: Sequence[Node], zone: str | None) -> NoRoom:
    where = f" in zone {zone}" if zone else ""
    notices = "".join(
        f" {notice}" for notice in dict.fromkeys(node.notice for node in allowed if node.healthy) if notice
    )
    if not any(hardware.resources.fits(node.total) for node in allowed):
        lacks = [f"node {node.id}: {hardware.resources.shortfall(node.total)}" for node in allowed]
        detail = "; ".join(lacks) or f"there is no node with {hardware.accelerator}{where}"
        code = "infeasible" if kind else "no_capacity"
        return NoRoom(code, f"No node could hold {hardware.id}{where}: {detail}.{notices}")
    # Of a node that takes nothing more whatever is asked for, the notice alone says why.
    lacks = [_lack(hardware, node) for node in allowed if not (node.notice and node.free == Resources())]
    detail = f": {'; '.join(lacks)}" if lacks else ""
    return NoRoom("no_capacity", f"No hardware is free for {hardware.id}{where}{detail}.{notices}")


def _lack(hardware: Hardware, node: Node) -> str:
    if not node.healthy:
        return f"node {node.id} does not answer"
    return f"node {node.id}: {hardware.resources.shortfall(node.free)}"


def offer(hardware: Hardware, nodes: Sequence[Node], now: datetime) -> Offer:
    """``hardware`` with what is free of it at ``now``."""
    return Offer(hardware, _availability(hardware, nodes), now)


def _availability(hardware: Hardware, nodes: Sequence[Node]) -> str:
    if isinstance(place(hardware, nodes, None, False), Placement):
        return "available"
    kind = [node for node in nodes if node.accelerator == hardware.accelerator and node.healthy]
    units = [node.free.threads if node.accelerator == CPU else node.free.accelerators for node in kind]
    return "insufficient" if any(count > 0 for count in units) else "unavailable"
