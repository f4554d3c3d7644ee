"""Launch specs: what an engine wants run, in words that every runtime understands.

Engines build them, runtimes run them (ARCHITECTURE.md, rule 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from roost.domain.hardware import Resources

LISTEN = "{listen}"
"""Placeholder in ``argv`` and ``env`` values: the runtime puts the address to listen on there, as ``unix:<path>`` or
``<host>:<port>``."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process of a replica. No shell: ``argv`` is executed as it is. ``secrets`` go to the environment too, and
    are never written to disk or shown."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """A replica to run: its processes (a tuple, since a replica may be a gang over several nodes), what they reserve,
    where they may go, and how long each phase may take.

    ``node_id`` None lets the runtime choose; ``zone`` None means any. ``accelerator`` is the node type required.
    ``start_timeout`` bounds launch to readiness; ``stop_grace`` is the time between TERM and KILL.
    """

    endpoint_id: str
    processes: tuple[ProcessSpec, ...]
    resources: Resources
    accelerator: str
    zone: str | None = None
    node_id: str | None = None
    start_timeout: timedelta = timedelta(minutes=2)
    stop_grace: timedelta = timedelta(seconds=10)
