"""A replica's durable record as the local runtime sees it: parsed, checked, turned into domain values.

The file itself is written by ``supervision.record``. A record that cannot be read is reported and left alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from roost.domain.hardware import Resources
from roost.domain.launch import LaunchSpec
from roost.domain.replica import ExitInfo, RuntimeState
from roost.runtimes.supervision import record as record_file

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Record:
    """One record. ``raw`` is the JSON object it came from; ``engine_started`` and ``supervisor_started`` are clock
    ticks since the boot ``boot_id``."""

    replica_id: str
    installation: str
    nonce: str
    state: RuntimeState
    address: str
    control_socket: str
    resources: Resources
    engine_pid: int | None
    engine_started: int | None
    supervisor_pid: int
    supervisor_started: int | None
    boot_id: str
    started: datetime
    exit: ExitInfo | None
    raw: Mapping[str, Any]

    @property
    def marker(self) -> str:
        """What the replica's processes carry in their environment."""
        return marker(self.replica_id, self.nonce)


def marker(replica_id: str, nonce: str) -> str:
    """The value of the environment variable that marks a replica's processes."""
    return f"{replica_id}/{nonce}"


def parse(raw: Mapping[str, Any]) -> Record:
    """The record in a JSON object. Raises ``ValueError`` naming what is missing or wrong."""
    try:
        exit_ = raw["exit"]
        return Record(
            replica_id=raw["replica_id"],
            installation=raw["installation"],
            nonce=raw["nonce"],
            state=RuntimeState(raw["state"]),
            address=raw["address"],
            control_socket=raw["control_socket"],
            resources=Resources(**raw["resources"]),
            engine_pid=raw["engine_pid"],
            engine_started=raw["engine_started"],
            supervisor_pid=raw["supervisor_pid"],
            supervisor_started=raw["supervisor_started"],
            boot_id=raw["boot_id"],
            started=datetime.fromtimestamp(raw["started"], UTC),
            exit=None if exit_ is None else parse_exit(exit_),
            raw=raw,
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"a record lacks or garbles a field: {error}") from error


def parse_exit(raw: Mapping[str, Any]) -> ExitInfo:
    """How a replica ended. Raises ``KeyError``, ``TypeError`` when it is not that."""
    return ExitInfo(raw["code"], raw["signal"], raw["cause"], tuple(raw["log_tail"]))


def read(path: Path) -> Record | None:
    """The record at ``path``, None when there is none. Raises ``ValueError`` when it is not a record, ``OSError``."""
    raw = record_file.read(str(path))
    return None if raw is None else parse(raw)


def write_exit(path: Path, raw: Mapping[str, Any], exit_: ExitInfo) -> None:
    """Write the end of a replica whose supervisor could not. The caller holds the lock. Raises ``OSError``."""
    record_file.write(str(path), {**raw, "state": RuntimeState.EXITED.value, "exit": asdict(exit_)}, durable=True)


def digest(spec: LaunchSpec) -> str:
    """SHA-256 of what is run and what it reserves; secrets are no part of it."""
    shown = {
        "processes": [{"argv": one.argv, "env": dict(one.env)} for one in spec.processes],
        "resources": asdict(spec.resources),
    }
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()
