"""Who may run where, and in which order. Pure.

Called by the runtimes that keep their own books (memory, local) on every launch and whenever room appears. A snapshot
of nodes comes in, decisions come out; the caller carries all of them out before it looks at the nodes again, so that
nothing is ever given away twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from roost.domain.hardware import Node
from roost.domain.launch import LaunchSpec
from roost.domain.replica import PendingReason


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a launch has to wait, for programs and for people."""

    reason: PendingReason
    message: str


@dataclass(frozen=True, slots=True)
class Decision:
    """``admitted``: replica id to node id, in queue order. ``waiting``: all the others."""

    admitted: Mapping[str, str]
    waiting: Mapping[str, Wait]


def admit(queue: Mapping[str, LaunchSpec], nodes: Sequence[Node]) -> Decision:
    """Walk through ``queue`` (oldest first) and give out what is free.

    The order is kept: a node that an earlier launch waits for takes no later one, so that a large replica is not
    starved by small ones. A launch that no node could ever hold blocks nobody.
    """
    left = {node.id: node for node in nodes}
    claimed: dict[str, str] = {}
    admitted: dict[str, str] = {}
    waiting: dict[str, Wait] = {}
    for replica_id, spec in queue.items():
        allowed = [node for node in left.values() if _matches(spec, node)]
        able = [node for node in allowed if spec.resources.fits(node.total)]
        if not able:
            waiting[replica_id] = Wait(PendingReason.INFEASIBLE, _infeasible(spec, allowed, nodes))
            continue
        fitting = [node for node in able if node.healthy and node.id not in claimed and spec.resources.fits(node.free)]
        if not fitting:
            waiting[replica_id] = Wait(PendingReason.NO_RESOURCES, _busy(spec, able, claimed))
            claimed.update({node.id: replica_id for node in able if node.id not in claimed})
            continue
        best = min(fitting, key=lambda n: (n.free.accelerators, n.free.threads, n.free.memory_bytes, n.id))
        admitted[replica_id] = best.id
        left[best.id] = replace(best, free=best.free - spec.resources)
    return Decision(admitted, waiting)


def _matches(spec: LaunchSpec, node: Node) -> bool:
    return node.accelerator == spec.accelerator and spec.zone in (None, node.zone) and spec.node_id in (None, node.id)


def _infeasible(spec: LaunchSpec, allowed: Sequence[Node], nodes: Sequence[Node]) -> str:
    if allowed:
        lacks = "; ".join(f"node {node.id}: {spec.resources.shortfall(node.total)}" for node in allowed)
        return f"No node could ever hold it: {lacks}."
    where = f" in zone {spec.zone}" if spec.zone is not None else ""
    name = f" {spec.node_id}" if spec.node_id is not None else ""
    known = ", ".join(f"{node.id} ({node.accelerator}, zone {node.zone})" for node in nodes) or "none"
    return f"There is no node{name} with {spec.accelerator}{where}. Known nodes: {known}."


def _busy(spec: LaunchSpec, able: Sequence[Node], claimed: Mapping[str, str]) -> str:
    lacks = []
    for node in able:
        if not node.healthy:
            lacks.append(f"node {node.id} does not answer")
        elif node.id in claimed:
            lacks.append(f"node {node.id}: {claimed[node.id]} waits for it too and came first")
        else:
            lacks.append(f"node {node.id}: {spec.resources.shortfall(node.free)}")
    return f"Waiting for room: {'; '.join(lacks)}."
