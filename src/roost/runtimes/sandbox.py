"""The sandbox's runtime: a declared fleet, replicas as processes of this machine.

Constructed by ``runtimes.registry`` for ``roost serve --sandbox``. Launching, following, adopting and ending are the
local runtime's; this adds the books on nodes that do not exist, and a bound on the engines that really run. It must
never run more than those, whatever the fleet has free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from roost.domain.hardware import Node, Resources
from roost.domain.replica import PendingReason
from roost.runtimes import sandbox_fleet
from roost.runtimes.base import RuntimeSettings
from roost.runtimes.local import LocalRuntime
from roost.runtimes.local_records import Record
from roost.runtimes.reservation import Decision, Wait, admit

MOST_ENGINES = 6
"""Engines at once: as many small ones as a laptop carries."""


class SandboxRuntime(LocalRuntime):
    """Replicas of this machine, on the books of a declared fleet. The machine itself is one more node, of CPU threads.

    ``fleet`` are the declared nodes, empty; ``most_engines`` how many replicas run at once; ``local`` goes to
    ``LocalRuntime``.
    """

    name = "sandbox"

    def __init__(
        self,
        settings: RuntimeSettings,
        *,
        fleet: Sequence[Node] | None = None,
        most_engines: int = MOST_ENGINES,
        **local: Any,
    ) -> None:
        super().__init__(settings, **local)
        self._fleet = tuple(sandbox_fleet.nodes() if fleet is None else fleet)
        self._most = most_engines

    async def capacity(self) -> Sequence[Node]:
        """The fleet less what runs; nothing of it is free while as many engines run as may."""
        nodes = self._nodes()
        if self._room() > 0:
            return nodes
        return tuple(replace(node, free=Resources(), notice=self._notice()) for node in nodes)

    def _nodes(self) -> Sequence[Node]:
        (machine,) = super()._nodes()
        running = list(self._replicas.values())
        declared = [machine, *self._fleet]
        return tuple(self._less_held(node, (one for one in running if one.node_id == node.id)) for node in declared)

    def _node_of(self, record: Record) -> str:
        return str(record.raw["node_id"])

    def _room(self) -> int:
        return self._most - sum(replica.holds for replica in self._replicas.values())

    def _notice(self) -> str:
        return (
            f"The sandbox runs at most {self._most} engines at once, and they are all in use: "
            "stop an endpoint, and the next one starts."
        )

    def _decide(self) -> Decision:
        decision = admit(self._queue, self._nodes())
        admitted = dict(islice(decision.admitted.items(), max(0, self._room())))
        crowded = Wait(PendingReason.NO_RESOURCES, self._notice())
        waiting = {replica_id: crowded for replica_id in decision.admitted if replica_id not in admitted}
        return Decision(admitted, {**decision.waiting, **waiting})
