"""Hardware on offer, and whether a request for it makes sense. Called by the API and by ``services.endpoints``.

It never reserves anything: what is free may be taken a moment later.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import sqrt

from roost.domain.errors import BadRequest
from roost.domain.hardware import Hardware, HardwarePrice, Node, Offer
from roost.domain.model import Model
from roost.engines.base import Capabilities
from roost.models.base import Cache
from roost.policy.placement import CPU, NoRoom, configurations, offer, place
from roost.services.catalog import Models, known_model

WEIGHTS_OVERHEAD = 1.2
"""Memory that an engine needs per byte of weights."""


@dataclass(frozen=True, slots=True)
class HardwareService:
    """What the nodes offer now."""

    capacity: Callable[[], Awaitable[Sequence[Node]]]
    prices: Mapping[str, HardwarePrice]
    catalog: Models
    cache: Cache
    capabilities: Callable[[Model], Capabilities]
    now: Callable[[], datetime]

    async def list(self, model: str | None = None) -> Sequence[Offer]:
        """All configurations, smallest first; judged for ``model`` (id or alias) when given.

        Raises ``NotFound`` for an unknown model.
        """
        chosen = known_model(self.catalog, model) if model is not None else None
        nodes = await self.capacity()
        now = self.now()
        offers = [offer(hardware, nodes, now) for hardware in configurations(nodes, self.prices).values()]
        return offers if chosen is None else [self._judged(item, chosen) for item in offers]

    async def zones(self) -> Sequence[str]:
        """The names of all availability zones, sorted."""
        return zones_of(await self.capacity())

    async def check(self, hardware_id: str, model: Model, zone: str | None, zone_required: bool) -> Hardware:
        """The configuration of that id, if it can ever be had for ``model`` as asked. Raises ``BadRequest``."""
        nodes = await self.capacity()
        offered = configurations(nodes, self.prices)
        if hardware_id not in offered:
            raise unknown_hardware(list(offered))
        if zone is not None and zone not in zones_of(nodes):
            known = ", ".join(zones_of(nodes)) or "none at present"
            raise BadRequest(
                f"There is no such availability zone. Known zones: {known}.",
                param="availability_zone",
                code="unknown_zone",
            )
        hardware = offered[hardware_id]
        if self.capabilities(model).managed:
            placed = place(hardware, nodes, zone, zone_required)
            if isinstance(placed, NoRoom) and placed.code == "infeasible":
                raise BadRequest(
                    f"Invalid hardware provided: {placed.reason} Please check the hardware API for what can be had.",
                    param="hardware",
                    code="infeasible_hardware",
                )
        return hardware

    def _judged(self, item: Offer, model: Model) -> Offer:
        if not self.capabilities(model).managed:
            # The server runs already, elsewhere: the hardware is a name only, and nothing of it is taken.
            return replace(item, availability="available")
        needed = memory_needed(model, self._weights_bytes(model))
        room = memory_of(item.hardware)
        fits = needed is None or room is None or needed <= room
        return item if fits else replace(item, availability="insufficient")

    def _weights_bytes(self, model: Model) -> int | None:
        if model.source is None:
            return 0
        return model.source.size_bytes or self.cache.status(model).total_bytes


def memory_needed(model: Model, weights_bytes: int | None) -> int | None:
    """Bytes of memory that a replica of ``model`` needs, roughly; None when the weights' size is unknown.

    The weights with the engine's overhead, and the context of each slot at ``2 * sqrt(weights)`` bytes a token: within
    a quarter of the truth for SmolLM2 135M (23 kB), Llama 3 8B (131 kB) and 70B (328 kB) in four bits.
    """
    if weights_bytes is None:
        return None
    per_token = 2 * sqrt(weights_bytes)
    return int(weights_bytes * WEIGHTS_OVERHEAD + per_token * model.context_length * (model.slots or 1))


def memory_of(hardware: Hardware) -> int | None:
    """Bytes of memory that weights can use on ``hardware``; None when it is unknown."""
    if hardware.accelerator == CPU:
        return hardware.resources.memory_bytes
    return int(hardware.memory_gb * 1e9) * hardware.gpu_count or None


def zones_of(nodes: Sequence[Node]) -> list[str]:
    """The zones of ``nodes``, sorted."""
    return sorted({node.zone for node in nodes})


def unknown_hardware(known: Sequence[str]) -> BadRequest:
    """No such configuration. The two phrases make classic clients print the hardware table."""
    listed = ", ".join(known) or "none at present"
    return BadRequest(
        f"Invalid hardware provided. Please check the hardware API for what can be had: {listed}.",
        param="hardware",
        code="unknown_hardware",
    )
