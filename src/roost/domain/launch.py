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
class OutputRule:
    """What may be kept of a process's output, for engines that put parts of requests into it. Regular expressions,
    each matched at the beginning of a line: up to the line that ``open_until`` matches, everything is kept; from then
    on only what the first match of ``keep`` covers, and no other line."""

    open_until: str
    keep: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process of a replica. No shell: ``argv`` is executed as it is. ``secrets`` go to the environment too, and
    are never written to disk or shown. ``output`` None: all output is kept."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    output: OutputRule | None = None


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
