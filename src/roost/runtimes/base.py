"""The runtime interface: an extension point.

A runtime runs launch specs and tells the truth about them. Every implementation passes
``roost.testing.runtime_contract``. All methods are coroutines; none blocks the event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from roost.domain.hardware import Node
from roost.domain.launch import LaunchSpec
from roost.domain.replica import RuntimeStatus


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """What a runtime is constructed with. ``installation`` marks what is ours: replicas that carry another
    installation's id are never listed, adopted or ended. ``home`` is ROOST_HOME; ``zone`` the name of this machine's
    zone; ``cpu_overcommit`` multiplies the threads on offer (1.0 = the cores that there are); ``engine_env`` are the
    variables that engines inherit beside the usual ones (``config.engine_environment``), ``engine_files`` how many
    files an engine may have open before it asks for more (None: as many as this process)."""

    home: Path
    installation: str
    zone: str = "local"
    cpu_overcommit: float = 1.0
    engine_env: tuple[str, ...] = ()
    engine_files: int | None = None


class Runtime(Protocol):
    """What every runtime offers. Implementations are constructed with one ``RuntimeSettings``."""

    name: str

    async def start(self) -> None:
        """Get ready: find the machine's resources, re-adopt what runs. Called once before anything else."""
        ...

    async def close(self) -> None:
        """Let go of connections and tasks. Replicas keep running."""
        ...

    async def capacity(self) -> Sequence[Node]:
        """The nodes with what is free of them now: a snapshot, never a reservation."""
        ...

    async def launch(self, spec: LaunchSpec, replica_id: str) -> None:
        """Run ``spec`` as ``replica_id``; returns at once.

        Idempotent by id: the same id twice is one replica. Resources are reserved atomically; a spec that does not
        fit now (or ever) stays PENDING with the reason and runs when room appears. A launch that cannot be carried
        out shows as EXITED with a cause, it does not raise.
        """
        ...

    async def status(self, replica_id: str) -> RuntimeStatus | None:
        """What is known of the replica; None for an id this runtime never saw or has forgotten."""
        ...

    async def list(self) -> Sequence[RuntimeStatus]:
        """All replicas of this installation, those the caller does not know included."""
        ...

    async def stop(self, replica_id: str, grace: timedelta) -> None:
        """TERM, wait ``grace``, KILL the whole process tree; returns when it is gone and its reservation free.

        Idempotent; unknown ids are a no-op.
        """
        ...

    async def forget(self, replica_id: str) -> None:
        """Drop the remains (record, logs, socket) of an EXITED or LOST replica; no-op for unknown ids."""
        ...

    async def logs(self, replica_id: str, tail: int = 200) -> Sequence[str]:
        """The last ``tail`` lines of the engine's output, also after its death; empty for unknown ids. What the
        processes' ``ProcessSpec.output`` leaves out is kept nowhere."""
        ...

    async def changed(self) -> str:
        """Wait for the next hint that some replica's status changed, and return its id.

        Hints may be lost or repeated; the truth comes from ``status``.
        """
        ...
