"""Hardware configurations, nodes and the resources they hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Resources:
    """An amount of schedulable resources: CPU threads, bytes of main memory, accelerators (whole devices)."""

    threads: int = 0
    memory_bytes: int = 0
    accelerators: int = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(
            self.threads + other.threads,
            self.memory_bytes + other.memory_bytes,
            self.accelerators + other.accelerators,
        )

    def __sub__(self, other: Resources) -> Resources:
        return Resources(
            self.threads - other.threads,
            self.memory_bytes - other.memory_bytes,
            self.accelerators - other.accelerators,
        )

    def fits(self, room: Resources) -> bool:
        """Whether this amount fits into ``room`` in every dimension."""
        return (
            self.threads <= room.threads
            and self.memory_bytes <= room.memory_bytes
            and self.accelerators <= room.accelerators
        )

    def shortfall(self, room: Resources) -> str:
        """What ``room`` lacks to hold this amount, as a phrase; empty when nothing is lacking.

        Memory is named only where it alone is lacking: a configuration's is its threads' or accelerators' share, far
        more than a small model needs.
        """
        gib = 1024**3
        lacks = []
        if self.threads > room.threads:
            lacks.append(f"CPU threads: {self.threads} wanted, {max(room.threads, 0)} free")
        if self.accelerators > room.accelerators:
            lacks.append(f"accelerators: {self.accelerators} wanted, {max(room.accelerators, 0)} free")
        if not lacks and self.memory_bytes > room.memory_bytes:
            wanted, free = self.memory_bytes / gib, max(room.memory_bytes, 0) / gib
            lacks.append(f"memory: {wanted:.1f} GiB wanted, {free:.1f} free")
        return "; ".join(lacks)


@dataclass(frozen=True, slots=True)
class HardwarePrice:
    """A catalog entry under ``[hardware."<accelerator>"]``: the price of one accelerator (or CPU thread) in cents per
    minute, and how it is shown. None keeps the built-in value."""

    cents_per_minute: float | None = None
    gpu_type: str | None = None
    gpu_link: str | None = None
    memory_gb: float | None = None


@dataclass(frozen=True, slots=True)
class Hardware:
    """A configuration that an endpoint can be deployed on, such as ``1x_cpu`` or ``4x_nvidia_h100_80gb_sxm``.

    ``accelerator`` is the node type it needs (``cpu``, ``nvidia_h100_80gb_sxm``); ``memory_gb`` the memory of one
    accelerator (for CPU hardware: of the whole configuration) in GB; ``cents_per_minute`` the price of one replica.
    """

    id: str
    accelerator: str
    gpu_type: str
    gpu_count: int
    gpu_link: str
    memory_gb: float
    cents_per_minute: float
    resources: Resources


@dataclass(frozen=True, slots=True)
class Node:
    """A machine that can hold replicas, at one instant: a snapshot, never a reservation.

    ``notice`` is a sentence for those who find no room on it: why it holds no more than it does.
    """

    id: str
    zone: str
    accelerator: str
    total: Resources
    free: Resources
    healthy: bool = True
    notice: str | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a replica goes: the constraint given to the runtime, and why."""

    node_id: str
    zone: str
    reason: str


@dataclass(frozen=True, slots=True)
class Offer:
    """A hardware configuration with what is free of it now.

    ``availability`` is ``available`` (a replica fits now), ``insufficient`` (some of its accelerator is free now, but
    less than a replica needs) or ``unavailable`` (none of it is free now, or no node with it is healthy).
    """

    hardware: Hardware
    availability: str
    updated_at: datetime
