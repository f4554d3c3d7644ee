"""Hardware and availability zones on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from roost.schemas.base import Answer, Listing


class HardwarePricing(Answer):
    """The price of one replica in cents per minute."""

    cents_per_minute: float


class HardwareSpecs(Answer):
    """What a configuration consists of. ``gpu_memory`` is in GB per accelerator (CPU hardware: of the whole)."""

    gpu_type: str
    gpu_link: str
    gpu_memory: float
    gpu_count: int


class HardwareAvailability(Answer):
    """``available``: a replica fits now; ``insufficient``: some of that accelerator is free now, but less than a
    replica needs; ``unavailable``: none of it is free now."""

    status: Literal["available", "unavailable", "insufficient"]


class Hardware(Answer):
    """A configuration that endpoints can be deployed on."""

    object: Literal["hardware"] = "hardware"
    id: str
    pricing: HardwarePricing
    specs: HardwareSpecs
    availability: HardwareAvailability
    updated_at: datetime


class HardwareList(Listing[Hardware]):
    """All configurations, smallest first."""


class ZoneList(Answer):
    """The names of all availability zones."""

    avzones: list[str]
