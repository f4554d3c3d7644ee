"""The local runtime: replicas as processes of this machine, each under a supervisor that outlives the control plane.

Constructed by ``runtimes.registry``. Supervisors do the work (``supervision``); this side keeps the books on threads
and memory, starts supervisors and follows them, and finds them again after a restart. It must never launch an id
twice, and never list, adopt or end what belongs to another installation.

A reservation is not a number that is raised and lowered: what is free is the machine less what its live replicas
hold, so no path can forget to give something back.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import secrets
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

from roost.config import engine_environment
from roost.domain.errors import InvalidSettings
from roost.domain.hardware import Node, Resources
from roost.domain.launch import LISTEN, LaunchSpec
from roost.domain.replica import ExitInfo, RuntimeState, RuntimeStatus
from roost.runtimes import local_records, machine
from roost.runtimes.base import RuntimeSettings
from roost.runtimes.hints import Hints
from roost.runtimes.local_paths import LocalPaths, ReplicaPaths, is_safe_id
from roost.runtimes.local_records import Record
from roost.runtimes.local_replica import STOP_MARGIN, LocalReplica
from roost.runtimes.reservation import Decision, admit
from roost.runtimes.supervision import process

_log = logging.getLogger(__name__)

ACCELERATOR = "cpu"
_ADOPTION_S = 10.0


class LocalRuntime:
    """Runs replicas on this machine (Linux only). One runtime object per home at a time. A spec's ``start_timeout``
    is for the control plane to watch; here a replica may be STARTING for ever.

    ``resources`` replaces what the machine really has, ``environment`` what engines inherit, ``nonce`` the source of
    the secrets by which supervisors are recognised, ``platform`` the operating system's name; ``stop_margin`` is how
    long beyond the grace a supervisor may take to end its engine before it is killed itself.
    """

    name = "local"

    def __init__(
        self,
        settings: RuntimeSettings,
        *,
        resources: Resources | None = None,
        environment: Mapping[str, str] | None = None,
        nonce: Callable[[], str] = lambda: secrets.token_hex(16),
        platform: str = sys.platform,
        stop_margin: timedelta = STOP_MARGIN,
    ) -> None:
        self._settings = settings
        self._paths = LocalPaths(settings.home)
        self._total = resources
        self._environment = engine_environment(settings.engine_env) if environment is None else dict(environment)
        self._nonce = nonce
        self._platform = platform
        self._stop_margin = stop_margin
        self._node_id = socket.gethostname()
        self._replicas: dict[str, LocalReplica] = {}
        self._queue: dict[str, LaunchSpec] = {}
        self._not_ours: set[str] = set()
        self._hints = Hints()
        self._closed = False

    async def start(self) -> None:
        """Find the machine's resources and re-adopt what runs. Raises ``InvalidSettings`` on anything but Linux, or
        when the home's folders cannot be made."""
        if self._platform != "linux":
            raise InvalidSettings(
                f"The local runtime needs Linux (this is {self._platform}): without PDEATHSIG and /proc it could not "
                "keep its promise that no engine is left behind. Use a Linux machine or container."
            )
        self._paths.prepare()
        if self._total is None:
            self._total = machine.resources(self._settings.cpu_overcommit)
        await self._adopt()

    async def close(self) -> None:
        """Let go of the supervisors; they and their engines keep running."""
        self._closed = True
        await asyncio.gather(*(replica.close() for replica in self._replicas.values()))
        folder = self._paths.fallback
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    async def capacity(self) -> Sequence[Node]:
        """This machine."""
        return self._nodes()

    async def launch(self, spec: LaunchSpec, replica_id: str) -> None:
        """Run ``spec`` as ``replica_id``. Raises ``ValueError`` for an id that cannot be a file name."""
        if replica_id in self._replicas:
            return
        replica = self._new(replica_id, spec.resources)
        if len(spec.processes) != 1 or not spec.processes[0].argv:
            cause = f"the local runtime runs exactly one process per replica, not {len(spec.processes)}"
            replica.end(ExitInfo(cause=cause))
            return
        try:
            self._paths.prepare_fallback(replica.paths)
        except InvalidSettings as error:
            replica.end(ExitInfo(cause=error.message))
            return
        self._queue[replica_id] = spec
        self._admit()

    async def status(self, replica_id: str) -> RuntimeStatus | None:
        """What is known of the replica."""
        replica = self._replicas.get(replica_id)
        return None if replica is None else replica.status()

    async def list(self) -> Sequence[RuntimeStatus]:
        """All replicas of this installation, those included that only their records tell of."""
        await self._adopt()
        return tuple(replica.status() for replica in self._replicas.values())

    async def stop(self, replica_id: str, grace: timedelta) -> None:
        """TERM, wait, KILL everything; returns when all of it is gone."""
        replica = self._replicas.get(replica_id)
        if replica is None:
            return
        if self._queue.pop(replica_id, None) is not None:
            replica.end(ExitInfo(cause="stopped before it was started"))
        await replica.stop(grace)

    async def forget(self, replica_id: str) -> None:
        """Remove the record, logs and sockets of a replica that has EXITED; others are left as they are."""
        replica = self._replicas.get(replica_id)
        if replica is None or replica.state is not RuntimeState.EXITED:
            return
        del self._replicas[replica_id]
        await replica.forget()

    async def logs(self, replica_id: str, tail: int = 200) -> Sequence[str]:
        """The last ``tail`` lines of the engine's output."""
        replica = self._replicas.get(replica_id)
        return () if replica is None or replica_id in self._queue else await replica.logs(tail)

    async def changed(self) -> str:
        """The next hint."""
        return await self._hints.take()

    def _new(self, replica_id: str, resources: Resources) -> LocalReplica:
        if not is_safe_id(replica_id):
            raise ValueError(f"{replica_id!r} is not a replica id")
        paths = self._paths.replica(replica_id)
        replica = LocalReplica(
            replica_id, paths, self._settings.installation, resources, self._changed, self._stop_margin
        )
        self._replicas[replica_id] = replica
        return replica

    def _changed(self, replica: LocalReplica) -> None:
        self._hints.put(replica.id)
        if replica.state is RuntimeState.EXITED and not self._closed:
            self._admit()

    def _nodes(self) -> Sequence[Node]:
        """What there is to run on, with what is free of it."""
        assert self._total is not None, "start() first"
        machine_ = Node(self._node_id, self._settings.zone, ACCELERATOR, self._total, self._total)
        return (self._less_held(machine_, self._replicas.values()),)

    def _node_of(self, record: Record) -> str:
        """The node that an adopted replica is on."""
        return self._node_id

    def _less_held(self, node: Node, replicas: Iterable[LocalReplica]) -> Node:
        free = node.total
        for replica in replicas:
            if replica.holds:
                free -= replica.resources
        # An adopted replica may hold more than a machine with new settings offers: less than nothing is not free.
        free = Resources(max(0, free.threads), max(0, free.memory_bytes), max(0, free.accelerators))
        return replace(node, free=free)

    def _decide(self) -> Decision:
        """Which queued launches begin, and where."""
        return admit(self._queue, self._nodes())

    def _admit(self) -> None:
        """Start what fits, oldest first. No await in here: what is free cannot change under it."""
        decision = self._decide()
        for replica_id, node_id in decision.admitted.items():
            spec = self._queue.pop(replica_id)
            replica = self._replicas[replica_id]
            replica.node_id = node_id
            replica.begin(self._launch_message(spec, replica_id, replica.paths), self._environment)
        for replica_id, wait in decision.waiting.items():
            if replica_id in self._queue and self._replicas[replica_id].wait_for(wait):
                self._hints.put(replica_id)

    def _launch_message(self, spec: LaunchSpec, replica_id: str, paths: ReplicaPaths) -> dict[str, Any]:
        address = f"unix:{paths.engine_socket}"
        nonce = self._nonce()
        one = spec.processes[0]
        own = {name: value.replace(LISTEN, address) for name, value in one.env.items()}
        marker = {process.MARKER: local_records.marker(replica_id, nonce)}
        return {
            "argv": [argument.replace(LISTEN, address) for argument in one.argv],
            "env": {**self._environment, **own, **one.secrets, **marker},
            "grace_s": spec.stop_grace.total_seconds(),
            "files": self._settings.engine_files,
            "output": asdict(one.output) if one.output is not None else None,
            "record_path": str(paths.record),
            "lock_path": str(paths.lock),
            "record": {
                "format": local_records.FORMAT,
                "replica_id": replica_id,
                "endpoint_id": spec.endpoint_id,
                "installation": self._settings.installation,
                "nonce": nonce,
                "node_id": self._replicas[replica_id].node_id,
                "address": address,
                "control_socket": str(paths.control_socket),
                "log": str(paths.log),
                "resources": asdict(spec.resources),
                "spec_digest": local_records.digest(spec),
            },
        }

    async def _adopt(self) -> None:
        """Take over all replicas of ours that have a record and are not known yet; wait until their state is known."""
        adopted = []
        for path in sorted(self._paths.records.glob("*.json")):
            replica_id = path.name.removesuffix(".json")
            if replica_id in self._replicas or replica_id in self._not_ours or not is_safe_id(replica_id):
                continue
            try:
                record = local_records.read(path)
            except (OSError, ValueError) as error:
                if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                    raise  # it says nothing about the record: whoever asked asks again
                _log.error("the replica record %s cannot be read and is left alone: %s", path, error)
                self._not_ours.add(replica_id)
                continue
            if record is None:
                continue
            if record.installation != self._settings.installation or record.replica_id != replica_id:
                _log.warning("the replica record %s belongs to another installation and is left alone", path)
                self._not_ours.add(replica_id)
                continue
            replica = self._new(replica_id, record.resources)
            replica.node_id = self._node_of(record)
            replica.adopt(record)
            adopted.append(asyncio.create_task(replica.settled.wait()))
        if adopted:
            _, slow = await asyncio.wait(adopted, timeout=_ADOPTION_S)
            for task in slow:
                task.cancel()
