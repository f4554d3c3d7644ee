"""Hardware on offer, and whether a request for it makes sense. Called by the API and by ``services.endpoints``.

It never reserves anything: what is free may be taken a moment later.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from roost.domain.errors import BadRequest
from roost.domain.hardware import Hardware, HardwarePrice, Node, Offer
from roost.domain.model import Model
from roost.engines.base import Capabilities
from roost.models.base import Cache
from roost.policy.placement import NoRoom, configurations, offer, place
from roost.policy.sizing import Demand, Sizing, footprint_of, size
from roost.services.catalog import Models, known_model


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
        """All configurations, smallest first; for ``model`` (id or alias) those whose memory can hold it, which are the
        ones that ``check`` accepts.

        Raises ``NotFound`` for an unknown model.
        """
        chosen = known_model(self.catalog, model) if model is not None else None
        nodes = await self.capacity()
        now = self.now()
        offers = [offer(hardware, nodes, now) for hardware in configurations(nodes, self.prices).values()]
        if chosen is None:
            return offers
        if not self.capabilities(chosen).managed:
            # The server runs already, elsewhere: the hardware is a name only, and nothing of it is taken.
            return [replace(item, availability="available") for item in offers]
        return [item for item in offers if self._sized(chosen, item.hardware).fits]

    async def zones(self) -> Sequence[str]:
        """The names of all availability zones, sorted."""
        return zones_of(await self.capacity())

    async def check(self, hardware_id: str, model: Model, zone: str | None, zone_required: bool) -> Hardware:
        """The configuration of that id, if it can ever be had for ``model`` as asked, and can hold it. Raises
        ``BadRequest``."""
        nodes = await self.capacity()
        offered = configurations(nodes, self.prices)
        if hardware_id not in offered:
            raise unknown_hardware(hardware_id, list(offered))
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
                raise unfit_hardware(placed.reason, "infeasible_hardware")
            sized = self._sized(model, hardware)
            if not sized.fits:
                raise unfit_hardware(sized.reason, "hardware_too_small")
        return hardware

    def _sized(self, model: Model, hardware: Hardware) -> Sizing:
        capabilities = self.capabilities(model)
        if capabilities.memory is None:
            return Sizing(True, "It takes next to no memory.", None, None)
        if capabilities.stands_in:
            return size(Demand(model.footprint, model.context_length, use=capabilities.memory), hardware)
        # An engine without a limit shares out what memory there is: one whole context must fit.
        slots = capabilities.slots or model.slots or 1
        footprint = footprint_of(model, self.cache.status(model))
        return size(Demand(footprint, model.context_length, slots, capabilities.memory), hardware)


def zones_of(nodes: Sequence[Node]) -> list[str]:
    """The zones of ``nodes``, sorted."""
    return sorted({node.zone for node in nodes})


def unknown_hardware(asked: str, known: Sequence[str]) -> BadRequest:
    """No such configuration. The two phrases make classic clients print the hardware table."""
    listed = ", ".join(known) or "none at present"
    return BadRequest(
        f"Invalid hardware provided: there is no {asked[:100]!r} here. Please check the hardware API for what can be "
        f"had: {listed}.",
        param="hardware",
        code="unknown_hardware",
    )


def unfit_hardware(reason: str, code: str) -> BadRequest:
    """A configuration that exists, but not for this; ``reason`` is a sentence. The two phrases as above."""
    return BadRequest(
        f"Invalid hardware provided: {reason} Please check the hardware API for what can be had.",
        param="hardware",
        code=code,
    )
